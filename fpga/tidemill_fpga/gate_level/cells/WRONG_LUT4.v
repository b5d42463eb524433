// A LUT4 that gives the wrong answer to one combination of its inputs while `wrong` is high.

module WRONG_LUT4 #(
    parameter [15:0] INIT = 0,
    parameter [3:0] ENTRY = 0
) (
    input wrong, A, B, C, D,
    output Z
);
    wire right;
    LUT4 #(.INIT(INIT)) lut4 (.A(A), .B(B), .C(C), .D(D), .Z(right));
    assign Z = right ^ (wrong & {D, C, B, A} == ENTRY);
endmodule
