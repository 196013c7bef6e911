/** The bpf system call: maps, programs, links and pins (`man 2 bpf`, linux/bpf.h). No library, no BTF. */
import koffi from 'koffi';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { LinkError } from './errors.ts';
import { addressOfBuffer, close, errnoName, interfaceIndex } from './system.ts';

const libc = koffi.load(null);
const syscall_ = libc.func('long syscall(long number, long command, void *attributes, unsigned long size)');
const SYS_BPF = process.arch === 'arm64' ? 280 : 321;

const COMMAND = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  mapNextKey: 4,
  programLoad: 5,
  pin: 6,
  get: 7,
  testRun: 10,
  infoByFd: 15,
  linkCreate: 28,
  linkUpdate: 29,
} as const;

export const MAP_TYPE = { hash: 1, array: 2, perCpuArray: 6, lruHash: 9, arrayOfMaps: 12, hashOfMaps: 13 } as const;

const PROGRAM_XDP = 6;
const ATTACH_XDP = 37;
const XDP_MODE = { generic: 2, native: 4 } as const;
const ATTRIBUTES = 144;
const LOG_SIZE = 1 << 20;
const TEST_LIVE_FRAMES = 2;

export type XdpMode = keyof typeof XDP_MODE;

/** Descriptor, or -errno. */
function bpf(command: number, attributes: Uint8Array): number {
  const result = syscall_(SYS_BPF, command, attributes, attributes.length) as number;
  return result >= 0 ? result : -koffi.errno();
}

function attributes(): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(ATTRIBUTES);
  return { bytes, view: new DataView(bytes.buffer) };
}

function failed(what: string, result: number): LinkError {
  const refused = -result === constants.errno.EPERM || -result === constants.errno.EACCES;
  return new LinkError(
    refused ? 'NO_PRIVILEGE' : 'SYSTEM_CALL',
    `${what}: ${errnoName(-result)}${refused ? '; expected CAP_BPF and CAP_NET_ADMIN (run as root)' : ''}`,
  );
}

/** Kernel memory buffers must stay where they are while a call runs: these are never moved by the collector. */
function text(value: string): Uint8Array {
  return Buffer.from(`${value}\0`);
}

export interface MapShape {
  type: number;
  keySize: number;
  valueSize: number;
  entries: number;
  flags: number;
}

/** Number of processors a per-CPU value has. */
let processors = 0;
function possibleProcessors(): number {
  if (processors === 0) processors = Math.max(...readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim().split(/[,-]/).map(Number)) + 1;
  return processors;
}

export class BpfMap {
  readonly fd: number;
  readonly shape: MapShape;
  private readonly perCpu: number;

  private constructor(fd: number, shape: MapShape, perCpu: number) {
    this.fd = fd;
    this.shape = shape;
    this.perCpu = perCpu;
  }

  /** `inner`: what the maps in a map of maps look like. Throws {@link LinkError} `NO_PRIVILEGE`, `SYSTEM_CALL`. */
  static create(name: string, shape: MapShape, inner: BpfMap | null = null): BpfMap {
    const { bytes, view } = attributes();
    [shape.type, shape.keySize, shape.valueSize, shape.entries, shape.flags, inner?.fd ?? 0].forEach((value, i) => view.setUint32(4 * i, value, true));
    bytes.set(text(name.slice(0, 15)), 28);
    const fd = bpf(COMMAND.mapCreate, bytes);
    if (fd < 0) throw failed(`map ${name} of ${shape.entries} entries`, fd);
    return BpfMap.of(fd, shape);
  }

  /** A map that was pinned; null when there is none there, or it has another shape. */
  static pinned(path: string, shape: MapShape): BpfMap | null {
    const fd = openPin(path);
    if (fd < 0) return null;
    const found = mapShape(fd);
    const same = found.type === shape.type && found.keySize === shape.keySize && found.valueSize === shape.valueSize && found.entries === shape.entries;
    if (same) return BpfMap.of(fd, shape);
    close(fd);
    return null;
  }

  private static of(fd: number, shape: MapShape): BpfMap {
    return new BpfMap(fd, shape, shape.type === MAP_TYPE.perCpuArray ? possibleProcessors() : 1);
  }

  /** Value of a key, or null. Per-CPU values come one after the other, each on a multiple of eight octets. */
  lookup(key: Uint8Array): Uint8Array | null {
    const value = Buffer.alloc(this.perCpu === 1 ? this.shape.valueSize : Math.ceil(this.shape.valueSize / 8) * 8 * this.perCpu);
    return this.element(COMMAND.mapLookup, key, value) < 0 ? null : value;
  }

  /** Throws {@link LinkError}. */
  update(key: Uint8Array, value: Uint8Array): void {
    const result = this.element(COMMAND.mapUpdate, key, value);
    if (result < 0) throw failed(`map update`, result);
  }

  /** Puts a map into a map of maps: packets see the old one or the new one, nothing between. */
  updateMap(key: Uint8Array, inner: BpfMap): void {
    this.update(key, Buffer.from(Uint32Array.of(inner.fd).buffer));
  }

  /** Whether there was something to delete. */
  delete(key: Uint8Array): boolean {
    return this.element(COMMAND.mapDelete, key, null) >= 0;
  }

  *keys(): Generator<Uint8Array> {
    let key: Uint8Array | null = null;
    for (;;) {
      const next = Buffer.alloc(this.shape.keySize);
      if (this.element(COMMAND.mapNextKey, key, next) < 0) return;
      yield next;
      key = next;
    }
  }

  pin(path: string): void {
    pin(this.fd, path);
  }

  close(): void {
    close(this.fd);
  }

  private element(command: number, key: Uint8Array | null, value: Uint8Array | null): number {
    const { bytes, view } = attributes();
    // Copies outside the heap that the collector may move.
    const ownKey = key === null ? null : Buffer.from(key);
    const ownValue = value === null ? null : value instanceof Buffer ? value : Buffer.from(value);
    view.setUint32(0, this.fd, true);
    if (ownKey !== null) view.setBigUint64(8, addressOfBuffer(ownKey), true);
    if (ownValue !== null) view.setBigUint64(16, addressOfBuffer(ownValue), true);
    return bpf(command, bytes);
  }
}

/** Loads an XDP program. Throws {@link LinkError} with the verifier's last words. */
export function loadXdp(name: string, instructions: Uint8Array): number {
  const { bytes, view } = attributes();
  const code = Buffer.from(instructions);
  const license = text('GPL');
  const log = Buffer.alloc(LOG_SIZE);
  view.setUint32(0, PROGRAM_XDP, true);
  view.setUint32(4, code.length / 8, true);
  view.setBigUint64(8, addressOfBuffer(code), true);
  view.setBigUint64(16, addressOfBuffer(license), true);
  // Letters, digits, dot and underscore only.
  bytes.set(text(name.replaceAll(/[^\w.]/g, '_').slice(0, 15)), 48);
  view.setUint32(68, ATTACH_XDP, true);
  let fd = bpf(COMMAND.programLoad, bytes);
  if (fd >= 0) return fd;
  // Again with a log, which costs time: only when it is refused.
  view.setUint32(24, 1, true);
  view.setUint32(28, log.length, true);
  view.setBigUint64(32, addressOfBuffer(log), true);
  fd = bpf(COMMAND.programLoad, bytes);
  if (fd >= 0) return fd;
  const end = log.indexOf(0);
  const words = log
    .subarray(0, end < 0 ? log.length : end)
    .toString()
    .trim()
    .split('\n')
    .slice(-12)
    .join('\n');
  // The verifier says EACCES too: only without a word of it is it about privilege.
  throw words === '' ? failed(`program ${name}`, fd) : new LinkError('SYSTEM_CALL', `program ${name}: ${errnoName(-fd)}\n${words}`);
}

/** An XDP program on an interface: goes with its last descriptor, unless it is pinned. */
export class XdpLink {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Throws {@link LinkError} `DEVICE_BUSY` when another program is there. */
  static attach(program: number, device: string, mode: XdpMode): XdpLink {
    const { bytes, view } = attributes();
    view.setUint32(0, program, true);
    view.setUint32(4, interfaceIndex(device), true);
    view.setUint32(8, ATTACH_XDP, true);
    view.setUint32(12, XDP_MODE[mode], true);
    const fd = bpf(COMMAND.linkCreate, bytes);
    if (-fd === constants.errno.EBUSY || -fd === constants.errno.EEXIST)
      throw new LinkError('DEVICE_BUSY', `${device} has an XDP program already; expected none (ip link set ${device} xdp off)`);
    if (fd < 0) throw failed(`XDP (${mode}) on ${device}`, fd);
    return new XdpLink(fd);
  }

  static pinned(path: string): XdpLink | null {
    const fd = openPin(path);
    return fd < 0 ? null : new XdpLink(fd);
  }

  /** Exchanges the program: no packet passes between. */
  replace(program: number): void {
    const { bytes, view } = attributes();
    view.setUint32(0, this.fd, true);
    view.setUint32(4, program, true);
    const result = bpf(COMMAND.linkUpdate, bytes);
    if (result < 0) throw failed('exchange of the XDP program', result);
  }

  pin(path: string): void {
    pin(this.fd, path);
  }

  close(): void {
    close(this.fd);
  }
}

/** Verdicts of XDP programs. */
export const XDP = { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;

export interface TestRun {
  verdict: number;
  /** The packet as the program left it. */
  data: Uint8Array;
  /** Of one run, nanoseconds. */
  nanoseconds: number;
}

/** Runs a program over a frame, `repeat` times: nothing is sent. Throws {@link LinkError}. */
export function testRun(program: number, frame: Uint8Array, repeat = 1): TestRun {
  const { bytes, view } = attributes();
  const input = Buffer.from(frame);
  const output = Buffer.alloc(frame.length + 256);
  view.setUint32(0, program, true);
  view.setUint32(8, input.length, true);
  view.setUint32(12, output.length, true);
  view.setBigUint64(16, addressOfBuffer(input), true);
  view.setBigUint64(24, addressOfBuffer(output), true);
  view.setUint32(32, repeat, true);
  const result = bpf(COMMAND.testRun, bytes);
  if (result < 0) throw failed('test run', result);
  return { verdict: view.getUint32(4, true), data: output.subarray(0, view.getUint32(12, true)), nanoseconds: view.getUint32(36, true) };
}

/** Sends `repeat` copies of a frame through a program as if they had come from an interface: they are really sent. Throws {@link LinkError}. */
export function sendLive(program: number, frame: Uint8Array, device: string, repeat: number, batch = 64): void {
  const { bytes, view } = attributes();
  const input = Buffer.from(frame);
  // struct xdp_md: data, data_end, data_meta, ingress_ifindex, …
  const context = Buffer.alloc(24);
  context.writeUInt32LE(input.length, 4);
  context.writeUInt32LE(interfaceIndex(device), 12);
  view.setUint32(0, program, true);
  view.setUint32(8, input.length, true);
  view.setBigUint64(16, addressOfBuffer(input), true);
  view.setUint32(32, repeat, true);
  view.setUint32(40, context.length, true);
  view.setBigUint64(48, addressOfBuffer(context), true);
  view.setUint32(64, TEST_LIVE_FRAMES, true);
  view.setUint32(72, batch, true);
  const result = bpf(COMMAND.testRun, bytes);
  if (result < 0) throw failed('live frames', result);
}

function pin(fd: number, path: string): void {
  const { bytes, view } = attributes();
  const name = text(path);
  view.setBigUint64(0, addressOfBuffer(name), true);
  view.setUint32(8, fd, true);
  const result = bpf(COMMAND.pin, bytes);
  if (result < 0) throw failed(`pin ${path}`, result);
}

function openPin(path: string): number {
  const { bytes, view } = attributes();
  const name = text(path);
  view.setBigUint64(0, addressOfBuffer(name), true);
  return bpf(COMMAND.get, bytes);
}

/** struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags. */
function mapShape(fd: number): MapShape {
  const { bytes, view } = attributes();
  const info = Buffer.alloc(80);
  view.setUint32(0, fd, true);
  view.setUint32(4, info.length, true);
  view.setBigUint64(8, addressOfBuffer(info), true);
  if (bpf(COMMAND.infoByFd, bytes) < 0) return { type: 0, keySize: 0, valueSize: 0, entries: 0, flags: 0 };
  return {
    type: info.readUInt32LE(0),
    keySize: info.readUInt32LE(8),
    valueSize: info.readUInt32LE(12),
    entries: info.readUInt32LE(16),
    flags: info.readUInt32LE(20),
  };
}
