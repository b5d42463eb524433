// Multiplier blocks of the Gowin GW1N and GW2A for simulation, from their documented behaviour: Gowin UG287, "Digital
// Signal Processing (DSP) User Guide" (MULT9X9, MULT18X18: operands signed or unsigned; registers at both inputs, at
// the product and at the output, all with one clock, enable and reset).
//
// Only what Tidemill's netlists use: operands from A and B, signs that do not change. Any other value of a parameter
// ends the build with a message, a shifted operand ends the simulation.

module gowin_multiplier #(
    parameter BITS = 9,
    parameter AREG = 1'b0,
    parameter BREG = 1'b0,
    parameter PIPE_REG = 1'b0,
    parameter OUT_REG = 1'b0
) (
    input [BITS-1:0] a, b,
    input asign, bsign, ce, clk, reset,
    output [2*BITS-1:0] dout
);
    reg [BITS-1:0] a_register = 0, b_register = 0;
    wire [BITS-1:0] a_used = AREG ? a_register : a, b_used = BREG ? b_register : b;
    wire signed [BITS:0] a_signed = {asign & a_used[BITS-1], a_used}, b_signed = {bsign & b_used[BITS-1], b_used};
    wire signed [2*BITS+1:0] product = a_signed * b_signed;
    reg [2*BITS-1:0] pipe_register = 0, out_register = 0;
    wire [2*BITS-1:0] pipe = PIPE_REG ? pipe_register : product[2*BITS-1:0];

    always @(posedge clk)
        if (reset) begin
            a_register <= 0;
            b_register <= 0;
            pipe_register <= 0;
            out_register <= 0;
        end else if (ce) begin
            a_register <= a;
            b_register <= b;
            pipe_register <= product[2*BITS-1:0];
            out_register <= pipe;
        end

    assign dout = OUT_REG ? out_register : pipe;
endmodule

module MULT9X9 #(
    parameter AREG = 1'b0,
    parameter BREG = 1'b0,
    parameter OUT_REG = 1'b0,
    parameter PIPE_REG = 1'b0,
    parameter ASIGN_REG = 1'b0,
    parameter BSIGN_REG = 1'b0,
    parameter SOA_REG = 1'b0,
    parameter MULT_RESET_MODE = "SYNC"
) (
    input [8:0] A, SIA, B, SIB,
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [17:0] DOUT,
    output [8:0] SOA, SOB
);
    if (ASIGN_REG || BSIGN_REG) $fatal(1, "MULT9X9: registers of the signs are not modelled");
    if (MULT_RESET_MODE != "SYNC") $fatal(1, "MULT9X9: reset mode %s is not modelled", MULT_RESET_MODE);
    gowin_multiplier #(
        .BITS(9), .AREG(AREG), .BREG(BREG), .PIPE_REG(PIPE_REG), .OUT_REG(OUT_REG)
    ) multiplier (.a(A), .b(B), .asign(ASIGN), .bsign(BSIGN), .ce(CE), .clk(CLK), .reset(RESET), .dout(DOUT));
    always @(posedge ASEL) $fatal(1, "%m: ASEL is not modelled");
    always @(posedge BSEL) $fatal(1, "%m: BSEL is not modelled");
endmodule

module MULT18X18 #(
    parameter AREG = 1'b0,
    parameter BREG = 1'b0,
    parameter OUT_REG = 1'b0,
    parameter PIPE_REG = 1'b0,
    parameter ASIGN_REG = 1'b0,
    parameter BSIGN_REG = 1'b0,
    parameter SOA_REG = 1'b0,
    parameter MULT_RESET_MODE = "SYNC"
) (
    input [17:0] A, SIA, B, SIB,
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [35:0] DOUT,
    output [17:0] SOA, SOB
);
    if (ASIGN_REG || BSIGN_REG) $fatal(1, "MULT18X18: registers of the signs are not modelled");
    if (MULT_RESET_MODE != "SYNC") $fatal(1, "MULT18X18: reset mode %s is not modelled", MULT_RESET_MODE);
    gowin_multiplier #(
        .BITS(18), .AREG(AREG), .BREG(BREG), .PIPE_REG(PIPE_REG), .OUT_REG(OUT_REG)
    ) multiplier (.a(A), .b(B), .asign(ASIGN), .bsign(BSIGN), .ce(CE), .clk(CLK), .reset(RESET), .dout(DOUT));
    always @(posedge ASEL) $fatal(1, "%m: ASEL is not modelled");
    always @(posedge BSEL) $fatal(1, "%m: BSEL is not modelled");
endmodule
