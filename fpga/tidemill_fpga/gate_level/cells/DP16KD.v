// Block RAM of the Lattice ECP5 for simulation, from its documented behaviour: Lattice FPGA-TN-02204, "ECP5 and ECP5-5G
// Memory Usage Guide". True dual port; or pseudo dual port where DATA_WIDTH_A is 36: port A writes (low half of a word
// at DIA, high half at DIB), port B reads (low half at DOA, high half at DOB; words of up to 18 bits at DOB). 1,024
// words of 18 bits, of which narrower ports see parts, as Yosys lays out initial values.
//
// Only what Tidemill's netlists use: any other value of a parameter ends the build with a message, a reset ends the
// simulation. A read of bits that the other port writes at the same clock edge has no defined result: the model returns
// the opposite of the old bits, so that a design which depends on them fails.

module DP16KD #(
    parameter DATA_WIDTH_A = 18,
    parameter DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG",
    parameter REGMODE_B = "NOREG",
    parameter RESETMODE = "SYNC",
    parameter ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000",
    parameter CSDECODE_B = "0b000",
    parameter WRITEMODE_A = "NORMAL",
    parameter WRITEMODE_B = "NORMAL",
    parameter CLKAMUX = "CLKA",
    parameter CLKBMUX = "CLKB",
    parameter [319:0] INITVAL_00 = 0,
    parameter [319:0] INITVAL_01 = 0,
    parameter [319:0] INITVAL_02 = 0,
    parameter [319:0] INITVAL_03 = 0,
    parameter [319:0] INITVAL_04 = 0,
    parameter [319:0] INITVAL_05 = 0,
    parameter [319:0] INITVAL_06 = 0,
    parameter [319:0] INITVAL_07 = 0,
    parameter [319:0] INITVAL_08 = 0,
    parameter [319:0] INITVAL_09 = 0,
    parameter [319:0] INITVAL_0A = 0,
    parameter [319:0] INITVAL_0B = 0,
    parameter [319:0] INITVAL_0C = 0,
    parameter [319:0] INITVAL_0D = 0,
    parameter [319:0] INITVAL_0E = 0,
    parameter [319:0] INITVAL_0F = 0,
    parameter [319:0] INITVAL_10 = 0,
    parameter [319:0] INITVAL_11 = 0,
    parameter [319:0] INITVAL_12 = 0,
    parameter [319:0] INITVAL_13 = 0,
    parameter [319:0] INITVAL_14 = 0,
    parameter [319:0] INITVAL_15 = 0,
    parameter [319:0] INITVAL_16 = 0,
    parameter [319:0] INITVAL_17 = 0,
    parameter [319:0] INITVAL_18 = 0,
    parameter [319:0] INITVAL_19 = 0,
    parameter [319:0] INITVAL_1A = 0,
    parameter [319:0] INITVAL_1B = 0,
    parameter [319:0] INITVAL_1C = 0,
    parameter [319:0] INITVAL_1D = 0,
    parameter [319:0] INITVAL_1E = 0,
    parameter [319:0] INITVAL_1F = 0,
    parameter [319:0] INITVAL_20 = 0,
    parameter [319:0] INITVAL_21 = 0,
    parameter [319:0] INITVAL_22 = 0,
    parameter [319:0] INITVAL_23 = 0,
    parameter [319:0] INITVAL_24 = 0,
    parameter [319:0] INITVAL_25 = 0,
    parameter [319:0] INITVAL_26 = 0,
    parameter [319:0] INITVAL_27 = 0,
    parameter [319:0] INITVAL_28 = 0,
    parameter [319:0] INITVAL_29 = 0,
    parameter [319:0] INITVAL_2A = 0,
    parameter [319:0] INITVAL_2B = 0,
    parameter [319:0] INITVAL_2C = 0,
    parameter [319:0] INITVAL_2D = 0,
    parameter [319:0] INITVAL_2E = 0,
    parameter [319:0] INITVAL_2F = 0,
    parameter [319:0] INITVAL_30 = 0,
    parameter [319:0] INITVAL_31 = 0,
    parameter [319:0] INITVAL_32 = 0,
    parameter [319:0] INITVAL_33 = 0,
    parameter [319:0] INITVAL_34 = 0,
    parameter [319:0] INITVAL_35 = 0,
    parameter [319:0] INITVAL_36 = 0,
    parameter [319:0] INITVAL_37 = 0,
    parameter [319:0] INITVAL_38 = 0,
    parameter [319:0] INITVAL_39 = 0,
    parameter [319:0] INITVAL_3A = 0,
    parameter [319:0] INITVAL_3B = 0,
    parameter [319:0] INITVAL_3C = 0,
    parameter [319:0] INITVAL_3D = 0,
    parameter [319:0] INITVAL_3E = 0,
    parameter [319:0] INITVAL_3F = 0,
    parameter GSR = "ENABLED"
) (
    input
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
    DIA0, ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0, CEA, OCEA, CLKA,
    WEA, RSTA, CSA2, CSA1, CSA0, DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6,
    DIB5, DIB4, DIB3, DIB2, DIB1, DIB0, ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2,
    ADB1, ADB0, CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1,
    DOA0, DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0
);
    localparam PSEUDO = DATA_WIDTH_A == 36;

    if (!(DATA_WIDTH_A inside {1, 2, 4, 9, 18, 36}) || !(DATA_WIDTH_B inside {1, 2, 4, 9, 18, 36}))
        $fatal(1, "DP16KD: widths of %0d and %0d bits are not modelled", DATA_WIDTH_A, DATA_WIDTH_B);
    if (DATA_WIDTH_B == 36 && !PSEUDO)
        $fatal(1, "DP16KD: 36 bits at port B with %0d at port A are not modelled", DATA_WIDTH_A);
    if (REGMODE_A != "NOREG" || (REGMODE_B != "NOREG" && (REGMODE_B != "OUTREG" || PSEUDO)))
        $fatal(1, "DP16KD: output registers %s, %s at %0d bits are not modelled", REGMODE_A, REGMODE_B, DATA_WIDTH_A);
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000")
        $fatal(1, "DP16KD: chip select decoding (%s, %s) is not modelled", CSDECODE_A, CSDECODE_B);
    if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
        $fatal(1, "DP16KD: inverted clocks (%s, %s) are not modelled", CLKAMUX, CLKBMUX);
    if (!PSEUDO && WRITEMODE_A != "NORMAL" && WRITEMODE_A != "READBEFOREWRITE")
        $fatal(1, "DP16KD: write mode %s is not modelled", WRITEMODE_A);
    if (!PSEUDO && WRITEMODE_B != "NORMAL" && WRITEMODE_B != "READBEFOREWRITE")
        $fatal(1, "DP16KD: write mode %s is not modelled", WRITEMODE_B);

    // 16 words of 18 bits in each parameter, 20 bits apart.
    localparam [20479:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
        INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34,
        INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22,
        INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
        INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
    };
    reg [17:0] mem[0:1023];
    initial
        for (integer i = 0; i < 1024; i = i + 1) mem[i] = INIT[20*i+:18];

    // First bit, in a word, of what `address` names to a port of `width` bits.
    function automatic integer first(input integer width, input [13:0] address);
        first = width >= 18 ? 0 : 9 * address[3];
        if (width == 4) first += 4 * address[2];
        if (width == 2) first += 2 * address[2:1];
        if (width == 1) first += address[2:0];
    endfunction

    // Bits of a word that a write of `width` bits reaches; words of 18 and 36 bits have an enable a byte of 9 bits.
    function automatic [17:0] reached(input integer width, input [13:0] address);
        if (width >= 18) reached = {{9{address[1]}}, {9{address[0]}}};
        else reached = ((18'd1 << width) - 18'd1) << first(width, address);
    endfunction

    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] dia = {
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
        DIA1, DIA0
    };
    wire [17:0] dib = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
        DIB1, DIB0
    };
    wire on_a = CEA & ~(CSA2 | CSA1 | CSA0), on_b = CEB & ~(CSB2 | CSB1 | CSB0);
    reg [17:0] doa = 0, dob = 0, dob_register = 0;

    if (PSEUDO) begin : pseudo
        wire [8:0] row = ada[13:5];
        wire [17:0] low = on_a & WEA ? {{9{ada[1]}}, {9{ada[0]}}} : 0;
        wire [17:0] high = on_a & WEA ? {{9{ada[3]}}, {9{ada[2]}}} : 0;
        wire [17:0] lost_low = adb[13:5] == row ? low : 0, lost_high = adb[13:5] == row ? high : 0;
        wire [17:0] read_low = mem[{adb[13:5], 1'b0}] ^ lost_low, read_high = mem[{adb[13:5], 1'b1}] ^ lost_high;

        always @(posedge CLKA)
            if (on_a & WEA) begin
                mem[{row, 1'b0}] <= (mem[{row, 1'b0}] & ~low) | (dia & low);
                mem[{row, 1'b1}] <= (mem[{row, 1'b1}] & ~high) | (dib & high);
            end

        always @(posedge CLKB)
            if (on_b) begin
                doa <= read_low;
                dob <= DATA_WIDTH_B == 36 ? read_high
                    : (adb[4] ? read_high : read_low) >> first(DATA_WIDTH_B, adb);
            end
    end else begin : dual
        wire [17:0] word_a = on_a & WEA ? reached(DATA_WIDTH_A, ada) : 0;
        wire [17:0] word_b = on_b & WEB ? reached(DATA_WIDTH_B, adb) : 0;
        wire same = ada[13:4] == adb[13:4];
        wire [17:0] read_a = mem[ada[13:4]] ^ (same ? word_b : 0);
        wire [17:0] read_b = mem[adb[13:4]] ^ (same ? word_a : 0);

        always @(posedge CLKA)
            if (on_a) begin
                if (WEA) mem[ada[13:4]] <= (mem[ada[13:4]] & ~word_a) | ((dia << first(DATA_WIDTH_A, ada)) & word_a);
                if (!WEA || WRITEMODE_A == "READBEFOREWRITE") doa <= read_a >> first(DATA_WIDTH_A, ada);
            end

        always @(posedge CLKB)
            if (on_b) begin
                if (WEB) mem[adb[13:4]] <= (mem[adb[13:4]] & ~word_b) | ((dib << first(DATA_WIDTH_B, adb)) & word_b);
                if (!WEB || WRITEMODE_B == "READBEFOREWRITE") dob <= read_b >> first(DATA_WIDTH_B, adb);
            end
    end

    // The output register has an enable of its own; CEB holds only the row in front of it.
    always @(posedge CLKB)
        if (OCEB) dob_register <= dob;

    always @(posedge RSTA) $fatal(1, "%m: RSTA is not modelled");
    always @(posedge RSTB) $fatal(1, "%m: RSTB is not modelled");

    assign {
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
        DOA1, DOA0
    } = doa;
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
        DOB1, DOB0
    } = REGMODE_B == "OUTREG" ? dob_register : dob;
endmodule
