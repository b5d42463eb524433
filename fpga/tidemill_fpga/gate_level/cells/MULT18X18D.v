// Multiplier block of the Lattice ECP5 for simulation, from its documented behaviour: Lattice FPGA-TN-02205, "ECP5 and
// ECP5-5G sysDSP Usage Guide" (multiplier element: operands signed or unsigned, registers at inputs and output).
//
// Only what Tidemill's netlists use: registers at both inputs and at the output, clocked by CLK0 or absent. Any other
// value of a parameter ends the build with a message, a shifted operand ends the simulation.

module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE",
    parameter REG_INPUTA_CE = "CE0",
    parameter REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE",
    parameter REG_INPUTB_CE = "CE0",
    parameter REG_INPUTB_RST = "RST0",
    parameter REG_PIPELINE_CLK = "NONE",
    parameter REG_PIPELINE_CE = "CE0",
    parameter REG_PIPELINE_RST = "RST0",
    parameter REG_OUTPUT_CLK = "NONE",
    parameter REG_OUTPUT_CE = "CE0",
    parameter REG_OUTPUT_RST = "RST0"
) (
    input
    A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0, B17, B16, B15, B14, B13, B12,
    B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0, C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5,
    C4, C3, C2, C1, C0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
    output
    P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14,
    P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    if ((REG_INPUTA_CLK != "NONE" && REG_INPUTA_CLK != "CLK0") || REG_INPUTA_CE != "CE0" || REG_INPUTA_RST != "RST0")
        $fatal(1, "MULT18X18D: register of input A with clock %s is not modelled", REG_INPUTA_CLK);
    if ((REG_INPUTB_CLK != "NONE" && REG_INPUTB_CLK != "CLK0") || REG_INPUTB_CE != "CE0" || REG_INPUTB_RST != "RST0")
        $fatal(1, "MULT18X18D: register of input B with clock %s is not modelled", REG_INPUTB_CLK);
    if (REG_PIPELINE_CLK != "NONE")
        $fatal(1, "MULT18X18D: pipeline register with clock %s is not modelled", REG_PIPELINE_CLK);
    if ((REG_OUTPUT_CLK != "NONE" && REG_OUTPUT_CLK != "CLK0") || REG_OUTPUT_CE != "CE0" || REG_OUTPUT_RST != "RST0")
        $fatal(1, "MULT18X18D: output register with clock %s is not modelled", REG_OUTPUT_CLK);

    wire [17:0] a = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };

    // The operand's sign goes with it through the input register.
    reg [18:0] a_register = 0, b_register = 0;
    wire [18:0] a_pin = {SIGNEDA & A17, a}, b_pin = {SIGNEDB & B17, b};
    wire signed [18:0] a_used = REG_INPUTA_CLK == "NONE" ? a_pin : a_register;
    wire signed [18:0] b_used = REG_INPUTB_CLK == "NONE" ? b_pin : b_register;
    wire signed [37:0] product = a_used * b_used;
    reg [35:0] p_register = 0;

    always @(posedge CLK0)
        if (RST0) begin
            a_register <= 0;
            b_register <= 0;
            p_register <= 0;
        end else if (CE0) begin
            a_register <= a_pin;
            b_register <= b_pin;
            p_register <= product[35:0];
        end

    always @(posedge SOURCEA) $fatal(1, "%m: SOURCEA is not modelled");
    always @(posedge SOURCEB) $fatal(1, "%m: SOURCEB is not modelled");

    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
        P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = REG_OUTPUT_CLK == "NONE" ? product[35:0] : p_register;
endmodule
