/** What has come, and what waits behind a hole. Positions count from 1, as the events do. */
export class OutOfOrder {
  inOrder = 0;
  waiting = 0;
  private pieces: [number, number][] = [];

  add(from: number, to: number): void {
    const end = this.inOrder + 1;
    if (to <= end) return;
    if (from <= end) this.inOrder = to - 1;
    else this.insert(from, to);
    while (this.pieces.length > 0 && this.pieces[0]![0] <= this.inOrder + 1) this.inOrder = Math.max(this.inOrder, this.pieces.shift()![1] - 1);
    this.waiting = this.pieces.reduce((sum, [a, b]) => sum + b - a, 0);
  }

  private insert(from: number, to: number): void {
    const out: [number, number][] = [];
    let piece: [number, number] = [from, to];
    for (const one of this.pieces) {
      if (one[1] < piece[0] || one[0] > piece[1]) out.push(one);
      else piece = [Math.min(one[0], piece[0]), Math.max(one[1], piece[1])];
    }
    out.push(piece);
    this.pieces = out.toSorted((a, b) => a[0] - b[0]);
  }
}
