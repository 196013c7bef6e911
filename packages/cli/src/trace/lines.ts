/** Many lines to a pipe: in pieces, no faster than it is read, and without complaint when its reader has had enough. */
import { once } from 'node:events';

const PIECE = 1 << 16;

export class LineWriter {
  /** The reader has gone (head, less). */
  closed = false;
  private readonly out: NodeJS.WriteStream;
  private pending: string[] = [];
  private size = 0;

  constructor(out: NodeJS.WriteStream) {
    this.out = out;
    out.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      this.closed = true;
    });
  }

  line(text: string): void {
    this.pending.push(text, '\n');
    this.size += text.length + 1;
    if (this.size > PIECE) this.flush();
  }

  async end(): Promise<void> {
    this.flush();
    if (this.out.writableNeedDrain && !this.closed) await Promise.race([once(this.out, 'drain'), once(this.out, 'close')]);
  }

  private flush(): void {
    if (!this.closed && this.size > 0) this.out.write(this.pending.join(''));
    this.pending = [];
    this.size = 0;
  }
}
