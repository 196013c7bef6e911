/**
 * A descriptor read by the event loop's own poll, through an error and on. A stream of Node's closes its descriptor at the first
 * error or end, and a packet socket has an error whenever its interface goes down (ENETDOWN), a netlink socket whenever events were
 * lost (ENOBUFS): so the stream gets a duplicate, and after an error another one. The descriptor itself stays with its owner until
 * {@link DescriptorPoll.close}: nobody writes into what has its number meanwhile.
 */
import { Socket } from 'node:net';
import { close, duplicate } from './system.ts';

interface PipeHandle {
  open(fd: number): number;
}

export interface PollHandler {
  /** Bytes read into the buffer. What is waiting may be read from the descriptor at once. */
  read(size: number): void;
  /** An error, as its number. Returns whether to go on. */
  failed(errno: number): boolean;
}

export class DescriptorPoll {
  private readonly fd: number;
  private readonly buffer: Uint8Array;
  private readonly handler: PollHandler;
  private socket: Socket | null = null;
  private background = false;
  private closed = false;

  /** Owns `fd`, which must not block, from now on. */
  constructor(fd: number, buffer: Uint8Array, handler: PollHandler) {
    this.fd = fd;
    this.buffer = buffer;
    this.handler = handler;
    this.start();
  }

  /** Does not keep the process alive. */
  unref(): void {
    this.background = true;
    this.socket?.unref();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.socket?.destroy();
    close(this.fd);
  }

  private start(): void {
    const socket = pollOnce(duplicate(this.fd), this.buffer, (size) => this.handler.read(size));
    let goOn = true;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      goOn = !this.closed && this.handler.failed(Math.abs(error.errno ?? 0));
    });
    // An empty packet looks like the end of a stream: it is none.
    socket.on('close', () => {
      if (goOn && !this.closed) this.start();
    });
    socket.resume();
    if (this.background) socket.unref();
    this.socket = socket;
  }
}

/**
 * `process.binding` is the only way to a handle that polls any descriptor and reads into one buffer: 1.05 µs a packet this way,
 * 12 with `fs.read`. Closing the socket closes the descriptor.
 */
function pollOnce(fd: number, buffer: Uint8Array, onRead: (size: number) => void): Socket {
  const { Pipe, constants } = (
    process as unknown as { binding(name: string): { Pipe: new (type: number) => PipeHandle; constants: { SOCKET: number } } }
  ).binding('pipe_wrap');
  const handle = new Pipe(constants.SOCKET);
  handle.open(fd);
  return new Socket({
    handle,
    onread: {
      buffer,
      callback: (size: number) => {
        onRead(size);
        return true;
      },
    },
  } as unknown as ConstructorParameters<typeof Socket>[0]);
}
