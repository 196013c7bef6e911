/** A fast generator for the fuzzer: xorshift32. Speed matters more here than quality. */
export class FuzzRandom {
  private state: number;

  constructor(seed: number) {
    this.state = Math.imul(seed | 1, 0x9e3779b1) | 1;
  }

  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }

  /** 0 to n - 1. */
  below(n: number): number {
    return this.next() % n;
  }
}
