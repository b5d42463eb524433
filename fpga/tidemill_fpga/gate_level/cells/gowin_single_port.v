// Single-port block RAM of Gowin devices for simulation, from its documented behaviour: Gowin UG285, "BSRAM & SSRAM User
// Guide" (SPX9; 16 Kbit in bytes of 9 bits; words of two and four bytes have write enables in the lowest address bits).
//
// Only what Tidemill's netlists use: no output register, block 0. Any other value of a parameter ends the build with a
// message.

module SPX9 #(
    parameter [287:0] INIT_RAM_00 = 0,
    parameter [287:0] INIT_RAM_01 = 0,
    parameter [287:0] INIT_RAM_02 = 0,
    parameter [287:0] INIT_RAM_03 = 0,
    parameter [287:0] INIT_RAM_04 = 0,
    parameter [287:0] INIT_RAM_05 = 0,
    parameter [287:0] INIT_RAM_06 = 0,
    parameter [287:0] INIT_RAM_07 = 0,
    parameter [287:0] INIT_RAM_08 = 0,
    parameter [287:0] INIT_RAM_09 = 0,
    parameter [287:0] INIT_RAM_0A = 0,
    parameter [287:0] INIT_RAM_0B = 0,
    parameter [287:0] INIT_RAM_0C = 0,
    parameter [287:0] INIT_RAM_0D = 0,
    parameter [287:0] INIT_RAM_0E = 0,
    parameter [287:0] INIT_RAM_0F = 0,
    parameter [287:0] INIT_RAM_10 = 0,
    parameter [287:0] INIT_RAM_11 = 0,
    parameter [287:0] INIT_RAM_12 = 0,
    parameter [287:0] INIT_RAM_13 = 0,
    parameter [287:0] INIT_RAM_14 = 0,
    parameter [287:0] INIT_RAM_15 = 0,
    parameter [287:0] INIT_RAM_16 = 0,
    parameter [287:0] INIT_RAM_17 = 0,
    parameter [287:0] INIT_RAM_18 = 0,
    parameter [287:0] INIT_RAM_19 = 0,
    parameter [287:0] INIT_RAM_1A = 0,
    parameter [287:0] INIT_RAM_1B = 0,
    parameter [287:0] INIT_RAM_1C = 0,
    parameter [287:0] INIT_RAM_1D = 0,
    parameter [287:0] INIT_RAM_1E = 0,
    parameter [287:0] INIT_RAM_1F = 0,
    parameter [287:0] INIT_RAM_20 = 0,
    parameter [287:0] INIT_RAM_21 = 0,
    parameter [287:0] INIT_RAM_22 = 0,
    parameter [287:0] INIT_RAM_23 = 0,
    parameter [287:0] INIT_RAM_24 = 0,
    parameter [287:0] INIT_RAM_25 = 0,
    parameter [287:0] INIT_RAM_26 = 0,
    parameter [287:0] INIT_RAM_27 = 0,
    parameter [287:0] INIT_RAM_28 = 0,
    parameter [287:0] INIT_RAM_29 = 0,
    parameter [287:0] INIT_RAM_2A = 0,
    parameter [287:0] INIT_RAM_2B = 0,
    parameter [287:0] INIT_RAM_2C = 0,
    parameter [287:0] INIT_RAM_2D = 0,
    parameter [287:0] INIT_RAM_2E = 0,
    parameter [287:0] INIT_RAM_2F = 0,
    parameter [287:0] INIT_RAM_30 = 0,
    parameter [287:0] INIT_RAM_31 = 0,
    parameter [287:0] INIT_RAM_32 = 0,
    parameter [287:0] INIT_RAM_33 = 0,
    parameter [287:0] INIT_RAM_34 = 0,
    parameter [287:0] INIT_RAM_35 = 0,
    parameter [287:0] INIT_RAM_36 = 0,
    parameter [287:0] INIT_RAM_37 = 0,
    parameter [287:0] INIT_RAM_38 = 0,
    parameter [287:0] INIT_RAM_39 = 0,
    parameter [287:0] INIT_RAM_3A = 0,
    parameter [287:0] INIT_RAM_3B = 0,
    parameter [287:0] INIT_RAM_3C = 0,
    parameter [287:0] INIT_RAM_3D = 0,
    parameter [287:0] INIT_RAM_3E = 0,
    parameter [287:0] INIT_RAM_3F = 0,
    parameter READ_MODE = 1'b0,
    parameter WRITE_MODE = 2'b00,
    parameter BIT_WIDTH = 9,
    parameter BLK_SEL = 3'b000,
    parameter RESET_MODE = "SYNC"
) (
    input CLK, CE, OCE, RESET, WRE,
    input [13:0] AD,
    input [35:0] DI,
    input [2:0] BLKSEL,
    output reg [35:0] DO
);
    if (READ_MODE != 0 || BLK_SEL != 0) $fatal(1, "SPX9: output register and block select are not modelled");
    if (WRITE_MODE > 2) $fatal(1, "SPX9: write mode 3 does not exist");
    localparam [18431:0] INIT = {
        INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38,
        INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30,
        INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28,
        INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20,
        INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18,
        INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10,
        INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08,
        INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00
    };
    reg [8:0] mem[0:2047];
    initial begin
        for (integer i = 0; i < 2048; i = i + 1) mem[i] = INIT[9*i+:9];
        DO = 0;
    end

    wire [10:0] first;
    wire [3:0] enables;
    wire [35:0] mask, written;
    gowin_lanes #(.BITS(9), .WIDTH(BIT_WIDTH)) lanes (
        .address(AD), .data(DI), .first(first), .enables(enables), .mask(mask), .written(written)
    );
    wire [35:0] shown = BIT_WIDTH >= 36 ? ~36'd0 : (36'd1 << BIT_WIDTH) - 1;
    wire [2:0] low = BIT_WIDTH < 9 ? AD[2:0] & ~(3'(BIT_WIDTH) - 3'd1) : 3'd0;
    wire on = CE && BLKSEL == 0, clear = RESET_MODE == "ASYNC" && RESET;
    wire [35:0] word = {mem[first+11'd3], mem[first+11'd2], mem[first+11'd1], mem[first]};

    always @(posedge CLK)
        if (on && WRE)
            for (integer lane = 0; lane < 4; lane = lane + 1)
                if (mask[9*lane+:9] != 0)
                    mem[first+lane[10:0]] <= (mem[first+lane[10:0]] & ~mask[9*lane+:9])
                        | (written[9*lane+:9] & mask[9*lane+:9]);

    always @(posedge CLK or posedge clear)
        if (clear || RESET) DO <= 0;
        else if (on && (!WRE || WRITE_MODE == 2)) DO <= (word >> low) & shown;
        else if (on && WRITE_MODE == 1) DO <= DI & shown;
endmodule
