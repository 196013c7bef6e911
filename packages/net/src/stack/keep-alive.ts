/** Keeps the process alive while sockets of ours that are not `unref`ed are open, as a system handle would. */
const FOREVER = 2 ** 31 - 1;

let holders = 0;
let timer: NodeJS.Timeout | null = null;

export class KeepAlive {
  private held = false;

  hold(): void {
    if (this.held) return;
    this.held = true;
    if (holders++ === 0) timer = setInterval(() => undefined, FOREVER);
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    if (--holders > 0 || timer === null) return;
    clearInterval(timer);
    timer = null;
  }
}
