/** Two hosts of ours in one process, joined by a wire that hands each packet over at once. */
import { Host, TransmitSlot } from '@subflow/stack';
import type { Connection, HostOptions, Interface } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';

export const CLIENT = parseAddress('192.0.2.1');
export const SERVER = parseAddress('192.0.2.2');
/** Packets that are taken from one side before the other has its turn. */
const BATCH = 16;

/** What the interfaces can do: super-segments and checksums left to the driver, or neither. */
export interface Offload {
  segmentationLimit: number;
  checksum: boolean;
}

const FULL: Offload = { segmentationLimit: 65_000, checksum: true };
export const NO_OFFLOAD: Offload = { segmentationLimit: 0, checksum: false };

function random(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

export class Wire {
  readonly client: Host;
  readonly server: Host;
  now = 1_000_000;
  private readonly slot = new TransmitSlot();
  private readonly hot = new Uint8Array(70_000);
  private readonly view = new DataView(this.hot.buffer);
  private readonly near: Interface;
  private readonly far: Interface;
  private readonly checked: boolean;

  constructor(options: Partial<HostOptions> = {}, offload: Offload = FULL) {
    const entropy = random();
    this.checked = offload.checksum;
    this.client = new Host({ entropy, ...options });
    this.server = new Host({ entropy, ...options });
    const common = { mtu: 1500, segmentationLimit: offload.segmentationLimit, checksumOffload: offload.checksum };
    this.near = this.client.addInterface({ name: 'near', addresses: [{ address: CLIENT, bits: 24 }], ...common });
    this.far = this.server.addInterface({ name: 'far', addresses: [{ address: SERVER, bits: 24 }], ...common });
  }

  /** Moves packets until neither side has any, at most `limit` each way. */
  run(limit = 1_000_000): void {
    for (let moved = true; moved && limit > 0; limit--) {
      moved = this.move(this.client, this.server, this.far) || this.move(this.server, this.client, this.near);
      this.now += 1;
    }
  }

  /** Fires what is due on both sides. */
  tick(): void {
    for (const host of [this.client, this.server]) if (host.pollTimeout() <= this.now) host.handleTimeout(this.now);
  }

  /** The connection that the server has accepted since the last call, if any; other events are dropped. */
  accepted(): Connection | null {
    let found: Connection | null = null;
    for (let event = this.server.pollEvent(); event !== null; event = this.server.pollEvent()) {
      if (event.type === 'connection-accepted') found = this.server.connections.get(event.connection) ?? null;
    }
    return found;
  }

  private move(from: Host, to: Host, through: Interface): boolean {
    const { slot } = this;
    let any = false;
    for (let i = 0; i < BATCH && from.pollTransmit(slot, this.now); i++) {
      any = true;
      const length = slot.copyTo(this.hot, 0);
      to.handlePacket(through, this.view, this.hot, 0, length, this.checked, this.now);
    }
    return any;
  }
}
