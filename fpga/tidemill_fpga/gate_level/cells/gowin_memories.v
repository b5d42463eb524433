// Block RAMs of Gowin devices for simulation, from their documented behaviour: Gowin UG285, "BSRAM & SSRAM User Guide"
// (semi-dual port SDPB and SDPX9B, dual port DPB and DPX9B; 16 Kbit in bytes of 8 or 9 bits; words of two and four
// bytes have write enables in the lowest address bits).
//
// Only what Tidemill's netlists use: both ports on one clock, no output register, block 0. Any other
// value of a parameter ends the build with a message. Bytes that one port reads at the edge at which the other writes
// them come out inverted, since the device promises nothing.

// A port's view of 2,048 bytes: which are reached, with what, and what a read shows.
module gowin_lanes #(
    parameter BITS = 9,
    parameter WIDTH = 9
) (
    input [13:0] address,
    input [4*BITS-1:0] data,
    output [10:0] first,
    output [3:0] enables,
    output [4*BITS-1:0] mask, written
);
    localparam BYTES = WIDTH >= BITS ? WIDTH / BITS : 1;
    localparam PART = WIDTH >= BITS ? 0 : WIDTH;
    if (!(WIDTH inside {1, 2, 4, BITS, 2 * BITS, 4 * BITS}))
        $fatal(1, "block RAM: words of %0d bits are not modelled", WIDTH);
    assign first = address[13:3] & ~(11'(BYTES) - 11'd1);
    assign enables = BYTES == 4 ? address[3:0] : BYTES == 2 ? {2'b00, address[1:0]} : 4'b0001;
    wire [2:0] low = PART == 0 ? 3'd0 : address[2:0] & ~(3'(PART) - 3'd1);
    assign mask = PART == 0
        ? {{BITS{enables[3]}}, {BITS{enables[2]}}, {BITS{enables[1]}}, {BITS{enables[0]}}}
        : ((4*BITS)'(1) << PART) - 1 << low;
    assign written = data << low;
endmodule

module SDPB #(
    parameter [255:0] INIT_RAM_00 = 0,
    parameter [255:0] INIT_RAM_01 = 0,
    parameter [255:0] INIT_RAM_02 = 0,
    parameter [255:0] INIT_RAM_03 = 0,
    parameter [255:0] INIT_RAM_04 = 0,
    parameter [255:0] INIT_RAM_05 = 0,
    parameter [255:0] INIT_RAM_06 = 0,
    parameter [255:0] INIT_RAM_07 = 0,
    parameter [255:0] INIT_RAM_08 = 0,
    parameter [255:0] INIT_RAM_09 = 0,
    parameter [255:0] INIT_RAM_0A = 0,
    parameter [255:0] INIT_RAM_0B = 0,
    parameter [255:0] INIT_RAM_0C = 0,
    parameter [255:0] INIT_RAM_0D = 0,
    parameter [255:0] INIT_RAM_0E = 0,
    parameter [255:0] INIT_RAM_0F = 0,
    parameter [255:0] INIT_RAM_10 = 0,
    parameter [255:0] INIT_RAM_11 = 0,
    parameter [255:0] INIT_RAM_12 = 0,
    parameter [255:0] INIT_RAM_13 = 0,
    parameter [255:0] INIT_RAM_14 = 0,
    parameter [255:0] INIT_RAM_15 = 0,
    parameter [255:0] INIT_RAM_16 = 0,
    parameter [255:0] INIT_RAM_17 = 0,
    parameter [255:0] INIT_RAM_18 = 0,
    parameter [255:0] INIT_RAM_19 = 0,
    parameter [255:0] INIT_RAM_1A = 0,
    parameter [255:0] INIT_RAM_1B = 0,
    parameter [255:0] INIT_RAM_1C = 0,
    parameter [255:0] INIT_RAM_1D = 0,
    parameter [255:0] INIT_RAM_1E = 0,
    parameter [255:0] INIT_RAM_1F = 0,
    parameter [255:0] INIT_RAM_20 = 0,
    parameter [255:0] INIT_RAM_21 = 0,
    parameter [255:0] INIT_RAM_22 = 0,
    parameter [255:0] INIT_RAM_23 = 0,
    parameter [255:0] INIT_RAM_24 = 0,
    parameter [255:0] INIT_RAM_25 = 0,
    parameter [255:0] INIT_RAM_26 = 0,
    parameter [255:0] INIT_RAM_27 = 0,
    parameter [255:0] INIT_RAM_28 = 0,
    parameter [255:0] INIT_RAM_29 = 0,
    parameter [255:0] INIT_RAM_2A = 0,
    parameter [255:0] INIT_RAM_2B = 0,
    parameter [255:0] INIT_RAM_2C = 0,
    parameter [255:0] INIT_RAM_2D = 0,
    parameter [255:0] INIT_RAM_2E = 0,
    parameter [255:0] INIT_RAM_2F = 0,
    parameter [255:0] INIT_RAM_30 = 0,
    parameter [255:0] INIT_RAM_31 = 0,
    parameter [255:0] INIT_RAM_32 = 0,
    parameter [255:0] INIT_RAM_33 = 0,
    parameter [255:0] INIT_RAM_34 = 0,
    parameter [255:0] INIT_RAM_35 = 0,
    parameter [255:0] INIT_RAM_36 = 0,
    parameter [255:0] INIT_RAM_37 = 0,
    parameter [255:0] INIT_RAM_38 = 0,
    parameter [255:0] INIT_RAM_39 = 0,
    parameter [255:0] INIT_RAM_3A = 0,
    parameter [255:0] INIT_RAM_3B = 0,
    parameter [255:0] INIT_RAM_3C = 0,
    parameter [255:0] INIT_RAM_3D = 0,
    parameter [255:0] INIT_RAM_3E = 0,
    parameter [255:0] INIT_RAM_3F = 0,
    parameter READ_MODE = 1'b0,
    parameter BIT_WIDTH_0 = 32,
    parameter BIT_WIDTH_1 = 32,
    parameter BLK_SEL_0 = 3'b000,
    parameter BLK_SEL_1 = 3'b000,
    parameter RESET_MODE = "SYNC"
) (
    input CLKA, CEA, CLKB, CEB, OCE, RESET, RESETA, RESETB,
    input [13:0] ADA, ADB,
    input [31:0] DI,
    input [2:0] BLKSELA, BLKSELB,
    output reg [31:0] DO
);
    if (READ_MODE != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0 || RESET_MODE != "SYNC")
        $fatal(1, "SDPB: output register, block select and asynchronous reset are not modelled");
    localparam [16383:0] INIT = {
        INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38,
        INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30,
        INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28,
        INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20,
        INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18,
        INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10,
        INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08,
        INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00
    };
    reg [7:0] mem[0:2047];
    initial begin
        for (integer i = 0; i < 2048; i = i + 1) mem[i] = INIT[8*i+:8];
        DO = 0;
    end

    wire [10:0] first_a, first_b;
    wire [3:0] enables_a, unused_enables;
    wire [31:0] mask_a, written, unused_mask, unused_data;
    gowin_lanes #(.BITS(8), .WIDTH(BIT_WIDTH_0)) lanes_a (
        .address(ADA), .data(DI), .first(first_a), .enables(enables_a), .mask(mask_a), .written(written)
    );
    gowin_lanes #(.BITS(8), .WIDTH(BIT_WIDTH_1)) lanes_b (
        .address(ADB), .data(32'd0), .first(first_b), .enables(unused_enables), .mask(unused_mask),
        .written(unused_data)
    );
    wire [2:0] low_b = BIT_WIDTH_1 < 8 ? ADB[2:0] & ~(3'(BIT_WIDTH_1) - 3'd1) : 3'd0;
    wire [31:0] shown = BIT_WIDTH_1 >= 32 ? ~32'd0 : (32'd1 << BIT_WIDTH_1) - 1;
    reg [31:0] word;
    always @* begin
        for (integer lane = 0; lane < 4; lane = lane + 1) begin
            word[8*lane+:8] = mem[first_b+lane[10:0]];
            for (integer other = 0; other < 4; other = other + 1)
                if (CEA && first_a + other[10:0] == first_b + lane[10:0])
                    word[8*lane+:8] = word[8*lane+:8] ^ mask_a[8*other+:8];
        end
    end

    always @(posedge CLKA)
        if (CEA && BLKSELA == 0)
            for (integer lane = 0; lane < 4; lane = lane + 1)
                if (mask_a[8*lane+:8] != 0)
                    mem[first_a+lane[10:0]] <= (mem[first_a+lane[10:0]] & ~mask_a[8*lane+:8])
                        | (written[8*lane+:8] & mask_a[8*lane+:8]);

    always @(posedge CLKB)
        if (RESET | RESETB) DO <= 0;
        else if (CEB && BLKSELB == 0) DO <= (word >> low_b) & shown;
endmodule

module SDPX9B #(
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
    parameter BIT_WIDTH_0 = 36,
    parameter BIT_WIDTH_1 = 36,
    parameter BLK_SEL_0 = 3'b000,
    parameter BLK_SEL_1 = 3'b000,
    parameter RESET_MODE = "SYNC"
) (
    input CLKA, CEA, CLKB, CEB, OCE, RESET, RESETA, RESETB,
    input [13:0] ADA, ADB,
    input [35:0] DI,
    input [2:0] BLKSELA, BLKSELB,
    output reg [35:0] DO
);
    if (READ_MODE != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0)
        $fatal(1, "SDPX9B: output register and block select are not modelled");
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

    wire [10:0] first_a, first_b;
    wire [3:0] enables_a, unused_enables;
    wire [35:0] mask_a, written, unused_mask, unused_data;
    gowin_lanes #(.BITS(9), .WIDTH(BIT_WIDTH_0)) lanes_a (
        .address(ADA), .data(DI), .first(first_a), .enables(enables_a), .mask(mask_a), .written(written)
    );
    gowin_lanes #(.BITS(9), .WIDTH(BIT_WIDTH_1)) lanes_b (
        .address(ADB), .data(36'd0), .first(first_b), .enables(unused_enables), .mask(unused_mask),
        .written(unused_data)
    );
    wire [2:0] low_b = BIT_WIDTH_1 < 9 ? ADB[2:0] & ~(3'(BIT_WIDTH_1) - 3'd1) : 3'd0;
    wire [35:0] shown = BIT_WIDTH_1 >= 36 ? ~36'd0 : (36'd1 << BIT_WIDTH_1) - 1;
    reg [35:0] word;
    always @* begin
        for (integer lane = 0; lane < 4; lane = lane + 1) begin
            word[9*lane+:9] = mem[first_b+lane[10:0]];
            for (integer other = 0; other < 4; other = other + 1)
                if (CEA && first_a + other[10:0] == first_b + lane[10:0])
                    word[9*lane+:9] = word[9*lane+:9] ^ mask_a[9*other+:9];
        end
    end

    always @(posedge CLKA)
        if (CEA && BLKSELA == 0)
            for (integer lane = 0; lane < 4; lane = lane + 1)
                if (mask_a[9*lane+:9] != 0)
                    mem[first_a+lane[10:0]] <= (mem[first_a+lane[10:0]] & ~mask_a[9*lane+:9])
                        | (written[9*lane+:9] & mask_a[9*lane+:9]);

    wire clear = RESET_MODE == "ASYNC" && (RESET | RESETB);
    always @(posedge CLKB or posedge clear)
        if (clear | RESET | RESETB) DO <= 0;
        else if (CEB && BLKSELB == 0) DO <= (word >> low_b) & shown;
endmodule

module DPB #(
    parameter [255:0] INIT_RAM_00 = 0,
    parameter [255:0] INIT_RAM_01 = 0,
    parameter [255:0] INIT_RAM_02 = 0,
    parameter [255:0] INIT_RAM_03 = 0,
    parameter [255:0] INIT_RAM_04 = 0,
    parameter [255:0] INIT_RAM_05 = 0,
    parameter [255:0] INIT_RAM_06 = 0,
    parameter [255:0] INIT_RAM_07 = 0,
    parameter [255:0] INIT_RAM_08 = 0,
    parameter [255:0] INIT_RAM_09 = 0,
    parameter [255:0] INIT_RAM_0A = 0,
    parameter [255:0] INIT_RAM_0B = 0,
    parameter [255:0] INIT_RAM_0C = 0,
    parameter [255:0] INIT_RAM_0D = 0,
    parameter [255:0] INIT_RAM_0E = 0,
    parameter [255:0] INIT_RAM_0F = 0,
    parameter [255:0] INIT_RAM_10 = 0,
    parameter [255:0] INIT_RAM_11 = 0,
    parameter [255:0] INIT_RAM_12 = 0,
    parameter [255:0] INIT_RAM_13 = 0,
    parameter [255:0] INIT_RAM_14 = 0,
    parameter [255:0] INIT_RAM_15 = 0,
    parameter [255:0] INIT_RAM_16 = 0,
    parameter [255:0] INIT_RAM_17 = 0,
    parameter [255:0] INIT_RAM_18 = 0,
    parameter [255:0] INIT_RAM_19 = 0,
    parameter [255:0] INIT_RAM_1A = 0,
    parameter [255:0] INIT_RAM_1B = 0,
    parameter [255:0] INIT_RAM_1C = 0,
    parameter [255:0] INIT_RAM_1D = 0,
    parameter [255:0] INIT_RAM_1E = 0,
    parameter [255:0] INIT_RAM_1F = 0,
    parameter [255:0] INIT_RAM_20 = 0,
    parameter [255:0] INIT_RAM_21 = 0,
    parameter [255:0] INIT_RAM_22 = 0,
    parameter [255:0] INIT_RAM_23 = 0,
    parameter [255:0] INIT_RAM_24 = 0,
    parameter [255:0] INIT_RAM_25 = 0,
    parameter [255:0] INIT_RAM_26 = 0,
    parameter [255:0] INIT_RAM_27 = 0,
    parameter [255:0] INIT_RAM_28 = 0,
    parameter [255:0] INIT_RAM_29 = 0,
    parameter [255:0] INIT_RAM_2A = 0,
    parameter [255:0] INIT_RAM_2B = 0,
    parameter [255:0] INIT_RAM_2C = 0,
    parameter [255:0] INIT_RAM_2D = 0,
    parameter [255:0] INIT_RAM_2E = 0,
    parameter [255:0] INIT_RAM_2F = 0,
    parameter [255:0] INIT_RAM_30 = 0,
    parameter [255:0] INIT_RAM_31 = 0,
    parameter [255:0] INIT_RAM_32 = 0,
    parameter [255:0] INIT_RAM_33 = 0,
    parameter [255:0] INIT_RAM_34 = 0,
    parameter [255:0] INIT_RAM_35 = 0,
    parameter [255:0] INIT_RAM_36 = 0,
    parameter [255:0] INIT_RAM_37 = 0,
    parameter [255:0] INIT_RAM_38 = 0,
    parameter [255:0] INIT_RAM_39 = 0,
    parameter [255:0] INIT_RAM_3A = 0,
    parameter [255:0] INIT_RAM_3B = 0,
    parameter [255:0] INIT_RAM_3C = 0,
    parameter [255:0] INIT_RAM_3D = 0,
    parameter [255:0] INIT_RAM_3E = 0,
    parameter [255:0] INIT_RAM_3F = 0,
    parameter READ_MODE0 = 1'b0,
    parameter READ_MODE1 = 1'b0,
    parameter WRITE_MODE0 = 2'b00,
    parameter WRITE_MODE1 = 2'b00,
    parameter BIT_WIDTH_0 = 16,
    parameter BIT_WIDTH_1 = 16,
    parameter BLK_SEL_0 = 3'b000,
    parameter BLK_SEL_1 = 3'b000,
    parameter RESET_MODE = "SYNC"
) (
    input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB,
    input [13:0] ADA, ADB,
    input [15:0] DIA, DIB,
    input [2:0] BLKSELA, BLKSELB,
    output reg [15:0] DOA, DOB
);
    if (READ_MODE0 != 0 || READ_MODE1 != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0 || RESET_MODE != "SYNC")
        $fatal(1, "DPB: output register, block select and asynchronous reset are not modelled");
    if (WRITE_MODE0 > 1 || WRITE_MODE1 > 1) $fatal(1, "DPB: read before write is not modelled");
    localparam [16383:0] INIT = {
        INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38,
        INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30,
        INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28,
        INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20,
        INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18,
        INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10,
        INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08,
        INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00
    };
    reg [7:0] mem[0:2047];
    initial begin
        for (integer i = 0; i < 2048; i = i + 1) mem[i] = INIT[8*i+:8];
        DOA = 0;
        DOB = 0;
    end

    wire [10:0] first_a, first_b;
    wire [3:0] enables_a, enables_b;
    wire [31:0] mask_a, mask_b, data_a, data_b;
    gowin_lanes #(.BITS(8), .WIDTH(BIT_WIDTH_0)) lanes_a (
        .address(ADA), .data({16'd0, DIA}), .first(first_a), .enables(enables_a), .mask(mask_a), .written(data_a)
    );
    gowin_lanes #(.BITS(8), .WIDTH(BIT_WIDTH_1)) lanes_b (
        .address(ADB), .data({16'd0, DIB}), .first(first_b), .enables(enables_b), .mask(mask_b), .written(data_b)
    );
    wire [15:0] shown_a = (16'd1 << BIT_WIDTH_0) - 16'd1, shown_b = (16'd1 << BIT_WIDTH_1) - 16'd1;
    wire [2:0] low_a = BIT_WIDTH_0 < 8 ? ADA[2:0] & ~(3'(BIT_WIDTH_0) - 3'd1) : 3'd0;
    wire [2:0] low_b = BIT_WIDTH_1 < 8 ? ADB[2:0] & ~(3'(BIT_WIDTH_1) - 3'd1) : 3'd0;
    wire on_a = CEA && BLKSELA == 0, on_b = CEB && BLKSELB == 0;
    reg [15:0] word_a, word_b;
    always @* begin
        for (integer lane = 0; lane < 2; lane = lane + 1) begin
            word_a[8*lane+:8] = mem[first_a+lane[10:0]];
            word_b[8*lane+:8] = mem[first_b+lane[10:0]];
            for (integer other = 0; other < 2; other = other + 1) begin
                if (on_b && WREB && first_b + other[10:0] == first_a + lane[10:0])
                    word_a[8*lane+:8] = word_a[8*lane+:8] ^ mask_b[8*other+:8];
                if (on_a && WREA && first_a + other[10:0] == first_b + lane[10:0])
                    word_b[8*lane+:8] = word_b[8*lane+:8] ^ mask_a[8*other+:8];
            end
        end
    end

    always @(posedge CLKA) begin
        if (on_a && WREA)
            for (integer lane = 0; lane < 2; lane = lane + 1)
                if (mask_a[8*lane+:8] != 0)
                    mem[first_a+lane[10:0]] <= (mem[first_a+lane[10:0]] & ~mask_a[8*lane+:8])
                        | (data_a[8*lane+:8] & mask_a[8*lane+:8]);
        if (RESETA) DOA <= 0;
        else if (on_a && !WREA) DOA <= (word_a >> low_a) & shown_a;
        else if (on_a && WRITE_MODE0 == 1) DOA <= DIA & shown_a;
    end

    always @(posedge CLKB) begin
        if (on_b && WREB)
            for (integer lane = 0; lane < 2; lane = lane + 1)
                if (mask_b[8*lane+:8] != 0)
                    mem[first_b+lane[10:0]] <= (mem[first_b+lane[10:0]] & ~mask_b[8*lane+:8])
                        | (data_b[8*lane+:8] & mask_b[8*lane+:8]);
        if (RESETB) DOB <= 0;
        else if (on_b && !WREB) DOB <= (word_b >> low_b) & shown_b;
        else if (on_b && WRITE_MODE1 == 1) DOB <= DIB & shown_b;
    end
endmodule

module DPX9B #(
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
    parameter READ_MODE0 = 1'b0,
    parameter READ_MODE1 = 1'b0,
    parameter WRITE_MODE0 = 2'b00,
    parameter WRITE_MODE1 = 2'b00,
    parameter BIT_WIDTH_0 = 18,
    parameter BIT_WIDTH_1 = 18,
    parameter BLK_SEL_0 = 3'b000,
    parameter BLK_SEL_1 = 3'b000,
    parameter RESET_MODE = "SYNC"
) (
    input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB,
    input [13:0] ADA, ADB,
    input [17:0] DIA, DIB,
    input [2:0] BLKSELA, BLKSELB,
    output reg [17:0] DOA, DOB
);
    if (READ_MODE0 != 0 || READ_MODE1 != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0 || RESET_MODE != "SYNC")
        $fatal(1, "DPX9B: output register, block select and asynchronous reset are not modelled");
    if (WRITE_MODE0 > 1 || WRITE_MODE1 > 1) $fatal(1, "DPX9B: read before write is not modelled");
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
        DOA = 0;
        DOB = 0;
    end

    wire [10:0] first_a, first_b;
    wire [3:0] enables_a, enables_b;
    wire [35:0] mask_a, mask_b, data_a, data_b;
    gowin_lanes #(.BITS(9), .WIDTH(BIT_WIDTH_0)) lanes_a (
        .address(ADA), .data({18'd0, DIA}), .first(first_a), .enables(enables_a), .mask(mask_a), .written(data_a)
    );
    gowin_lanes #(.BITS(9), .WIDTH(BIT_WIDTH_1)) lanes_b (
        .address(ADB), .data({18'd0, DIB}), .first(first_b), .enables(enables_b), .mask(mask_b), .written(data_b)
    );
    wire [17:0] shown_a = (18'd1 << BIT_WIDTH_0) - 18'd1, shown_b = (18'd1 << BIT_WIDTH_1) - 18'd1;
    wire [2:0] low_a = BIT_WIDTH_0 < 9 ? ADA[2:0] & ~(3'(BIT_WIDTH_0) - 3'd1) : 3'd0;
    wire [2:0] low_b = BIT_WIDTH_1 < 9 ? ADB[2:0] & ~(3'(BIT_WIDTH_1) - 3'd1) : 3'd0;
    wire on_a = CEA && BLKSELA == 0, on_b = CEB && BLKSELB == 0;
    reg [17:0] word_a, word_b;
    always @* begin
        for (integer lane = 0; lane < 2; lane = lane + 1) begin
            word_a[9*lane+:9] = mem[first_a+lane[10:0]];
            word_b[9*lane+:9] = mem[first_b+lane[10:0]];
            for (integer other = 0; other < 2; other = other + 1) begin
                if (on_b && WREB && first_b + other[10:0] == first_a + lane[10:0])
                    word_a[9*lane+:9] = word_a[9*lane+:9] ^ mask_b[9*other+:9];
                if (on_a && WREA && first_a + other[10:0] == first_b + lane[10:0])
                    word_b[9*lane+:9] = word_b[9*lane+:9] ^ mask_a[9*other+:9];
            end
        end
    end

    always @(posedge CLKA) begin
        if (on_a && WREA)
            for (integer lane = 0; lane < 2; lane = lane + 1)
                if (mask_a[9*lane+:9] != 0)
                    mem[first_a+lane[10:0]] <= (mem[first_a+lane[10:0]] & ~mask_a[9*lane+:9])
                        | (data_a[9*lane+:9] & mask_a[9*lane+:9]);
        if (RESETA) DOA <= 0;
        else if (on_a && !WREA) DOA <= (word_a >> low_a) & shown_a;
        else if (on_a && WRITE_MODE0 == 1) DOA <= DIA & shown_a;
    end

    always @(posedge CLKB) begin
        if (on_b && WREB)
            for (integer lane = 0; lane < 2; lane = lane + 1)
                if (mask_b[9*lane+:9] != 0)
                    mem[first_b+lane[10:0]] <= (mem[first_b+lane[10:0]] & ~mask_b[9*lane+:9])
                        | (data_b[9*lane+:9] & mask_b[9*lane+:9]);
        if (RESETB) DOB <= 0;
        else if (on_b && !WREB) DOB <= (word_b >> low_b) & shown_b;
        else if (on_b && WRITE_MODE1 == 1) DOB <= DIB & shown_b;
    end
endmodule
