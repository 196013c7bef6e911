/** Operation codes of classic BPF (linux/filter.h, BSD bpf(4)), those that our socket filters use. An instruction is `[code, jt, jf, k]`. */
export const BPF = {
  loadWord: 0x20,
  loadHalf: 0x28,
  loadByte: 0x30,
  /** Relative to X. */
  loadHalfX: 0x48,
  loadByteX: 0x50,
  /** X becomes the IPv4 header length in the low four bits of the octet at k, times four. */
  headerLength: 0xb1,
  and: 0x54,
  equals: 0x15,
  return: 0x06,
} as const;

export type BpfInstruction = [code: number, yes: number, no: number, k: number];
