/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The token of a key: the first word of SHA-256 (RFC 8684 §3.2) or SHA-1 (RFC 6824 §3.2) of its eight octets. One block; all
 * loops are unrolled, so that constants become immediates; the schedule lies in a per-CPU map, the stack is too small.
 */
#pragma once
#include "common.h"

#define ROTR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define ROTL(x, n) (((x) << (n)) | ((x) >> (32 - (n))))

static const __u32 K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The key, padded (FIPS 180-4 §5.1.1). */
inline_ void block(volatile __u32 *w, __u32 high, __u32 low)
{
	w[0] = high;
	w[1] = low;
	w[2] = 0x80000000;
#pragma clang loop unroll(full)
	for (int i = 3; i < 15; i++)
		w[i] = 0;
	w[15] = 64;
}

inline_ __u32 token_sha256(volatile __u32 *w, __u32 high, __u32 low)
{
	block(w, high, low);
	__u32 a = 0x6a09e667, b = 0xbb67ae85, c = 0x3c6ef372, d = 0xa54ff53a;
	__u32 e = 0x510e527f, f = 0x9b05688c, g = 0x1f83d9ab, h = 0x5be0cd19;
#pragma clang loop unroll(full)
	for (int i = 0; i < 64; i++) {
		if (i >= 16) {
			__u32 x = w[(i - 15) & 15], y = w[(i - 2) & 15];
			__u32 s0 = ROTR(x, 7) ^ ROTR(x, 18) ^ (x >> 3);
			__u32 s1 = ROTR(y, 17) ^ ROTR(y, 19) ^ (y >> 10);
			w[i & 15] += s0 + w[(i - 7) & 15] + s1;
		}
		__u32 s1 = ROTR(e, 6) ^ ROTR(e, 11) ^ ROTR(e, 25);
		__u32 t1 = h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i & 15];
		__u32 s0 = ROTR(a, 2) ^ ROTR(a, 13) ^ ROTR(a, 22);
		__u32 t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
		h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
	}
	return a + 0x6a09e667;
}

inline_ __u32 token_sha1(volatile __u32 *w, __u32 high, __u32 low)
{
	block(w, high, low);
	__u32 a = 0x67452301, b = 0xefcdab89, c = 0x98badcfe, d = 0x10325476, e = 0xc3d2e1f0;
#pragma clang loop unroll(full)
	for (int i = 0; i < 80; i++) {
		if (i >= 16) {
			__u32 x = w[(i - 3) & 15] ^ w[(i - 8) & 15] ^ w[(i - 14) & 15] ^ w[i & 15];
			w[i & 15] = ROTL(x, 1);
		}
		__u32 f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
		__u32 k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
		__u32 t = ROTL(a, 5) + f + e + k + w[i & 15];
		e = d, d = c, c = ROTL(b, 30), b = a, a = t;
	}
	return a + 0x67452301;
}
