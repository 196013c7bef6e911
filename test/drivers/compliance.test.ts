/** One suite that every link driver runs: a TUN device with offload, without, a packet socket on Ethernet, a real-time emulated link. */
import { existsSync, readFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { TransmitSlot } from '@subflow/stack';
import { PERFECT_LINK } from '@subflow/emulator';
import { buildPacket, FLAG, ipHeader, ipVersion, parseAddress, PARSED, parsePacket, PROTOCOL, Segment } from '@subflow/wire';
import { command, LinkError, Namespace, now, PacketSocketPort, RealTimeNetwork, Tun } from '@subflow/link';
import type { LinkEnd, PacketPort } from '@subflow/link';
import { describeSystem } from '../interop/require-system.ts';

const OURS = parseAddress('192.0.2.1');
const KERNEL = parseAddress('192.0.2.2');

interface Rig {
  port: PacketPort;
  namespace: Namespace;
  stop(): void;
}

const rigs: Rig[] = [];
afterEach(() => {
  for (const rig of rigs.splice(0)) rig.stop();
});

function tunRig(offload: boolean): Rig {
  const namespace = new Namespace(`drv${rigs.length}`);
  const tun = new Tun(`sfd${process.pid % 10000}`, { offload });
  namespace.adopt(tun.name, '192.0.2.2/24');
  return {
    port: tun,
    namespace,
    stop: () => {
      tun.close();
      namespace.remove();
    },
  };
}

/** A port at one end of an emulated link whose other end is a TUN device: the link must be transparent. */
function emulatedRig(): Rig {
  const below = tunRig(true);
  const network = new RealTimeNetwork(1);
  let handler: Parameters<PacketPort['onPackets']>[0] | null = null;
  let sink: (packet: Uint8Array) => void = () => undefined;
  const end: LinkEnd = {
    deliver: (packet) => {
      handler?.packet(new DataView(packet.buffer), packet, 0, packet.length, false, 0);
      handler?.batchEnd();
    },
    onSend: (use) => {
      sink = use;
    },
  };
  network.link(end, network.portEnd(below.port), { ...PERFECT_LINK, delay: 2000 }, { ...PERFECT_LINK, delay: 2000 });
  const send = (packet: Uint8Array): void => {
    sink(packet);
    network.run();
  };
  return {
    namespace: below.namespace,
    port: {
      name: 'emulated',
      onPackets: (use) => {
        handler = use;
      },
      transmit: (slot) => {
        const packet = new Uint8Array(slot.length);
        slot.copyTo(packet, 0);
        send(packet);
      },
      send,
      close: () => undefined,
    },
    stop: () => {
      network.stop();
      below.stop();
    },
  };
}

/** A packet socket at one end of a veth pair; the kernel's end has an address, ours has none. */
function packetRig(): Rig {
  const namespace = new Namespace(`drv${rigs.length}`);
  const device = `sfp${process.pid % 10000}`;
  command('ip', ['link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace.name]);
  command('ip', ['link', 'set', device, 'up']);
  namespace.ip('address', 'add', '192.0.2.2/24', 'dev', 'eth0');
  namespace.ip('link', 'set', 'eth0', 'up');
  // The kernel tells of a carrier up to a second later; until then it drops what is sent, our question for the address too.
  for (let i = 0; i < 200 && readFileSync(`/sys/class/net/${device}/operstate`, 'utf8').trim() !== 'up'; i++)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  const port = new PacketSocketPort(device, { addresses: [{ address: OURS, bits: 24 }] });
  return {
    port,
    namespace,
    stop: () => {
      port.close();
      // Removing the namespace takes its end away only later.
      if (existsSync(`/sys/class/net/${device}`)) command('ip', ['link', 'delete', device]);
      namespace.remove();
    },
  };
}

function make(kind: string): Rig {
  const rig = kind === 'packet socket' ? packetRig() : kind === 'emulated link in real time' ? emulatedRig() : tunRig(kind === 'TUN with offload');
  rigs.push(rig);
  return rig;
}

/** Collects copies of what arrives until `enough` says so. */
function collect(port: PacketPort, enough: (packets: Uint8Array[]) => boolean, timeout = 5000): Promise<Uint8Array[]> {
  const packets: Uint8Array[] = [];
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`only ${packets.length} packets`)), timeout);
    port.onPackets({
      packet: (_view, bytes, offset, length) => {
        if (ipVersion(bytes, offset) === 4) packets.push(bytes.slice(offset, offset + length));
      },
      batchEnd: () => {
        if (!enough(packets)) return;
        clearTimeout(timer);
        resolve(packets);
      },
    });
  });
}

function echoRequest(sequence: number, size = 56): Uint8Array {
  return buildPacket(ipHeader(OURS, KERNEL, PROTOCOL.icmp), {
    icmp: { kind: 'echo', version: 4, reply: false, code: 0, checksum: 0, identifier: 7, sequence, data: new Uint8Array(size).fill(sequence) },
  });
}

for (const kind of ['TUN with offload', 'TUN without offload', 'packet socket', 'emulated link in real time']) {
  describeSystem(`driver: ${kind}`, () => {
    it('carries packets both ways, unchanged and in order', async () => {
      const { port } = make(kind);
      const arrived = collect(port, (packets) => packets.length >= 20);
      for (let i = 0; i < 20; i++) port.send(echoRequest(i));
      const replies = await arrived;
      expect(replies.map((packet) => packet[27])).toEqual(Array.from({ length: 20 }, (_, i) => i));
      expect([...replies[3]!.subarray(28)]).toEqual(Array.from({ length: 56 }, () => 3));
    });

    it('sends what the stack writes into a slot, checksums complete for the receiver', async () => {
      const { port } = make(kind);
      const slot = new TransmitSlot();
      const packet = buildPacket(ipHeader(OURS, KERNEL, PROTOCOL.tcp), {
        tcp: {
          sourcePort: 4000,
          destinationPort: 9,
          seq: 1,
          ack: 0,
          headerLength: 20,
          reserved: 0,
          flags: FLAG.syn,
          window: 100,
          checksum: 0,
          urgent: 0,
          options: [],
        },
      });
      slot.header.set(packet);
      slot.headerLength = packet.length;
      slot.transportOffset = 20;
      const arrived = collect(port, (packets) => packets.length >= 1);
      port.transmit(slot);
      // Nobody listens on port 9: the kernel's reset proves that it took the segment.
      const [reset] = await arrived;
      const segment = new Segment();
      expect(parsePacket(new DataView(reset!.buffer), reset!, 0, reset!.length, false, segment)).toBe(PARSED.tcp);
      expect(segment).toMatchObject({ flags: FLAG.rst | FLAG.ack, destinationPort: 4000 });
    });

    it('hands over a burst without loss', async () => {
      const { port } = make(kind);
      // Neighbours that do not know each other yet keep only some of what is sent meanwhile.
      const first = collect(port, (packets) => packets.length >= 1);
      port.send(echoRequest(0));
      await first;
      const arrived = collect(port, (packets) => packets.length >= 200);
      for (let i = 0; i < 200; i++) port.send(echoRequest(i & 0xff, 1400));
      expect((await arrived).length).toBe(200);
    });

    it('is silent after close', async () => {
      const rig = make(kind);
      let packets = 0;
      rig.port.onPackets({ packet: () => void packets++, batchEnd: () => undefined });
      rig.stop();
      rig.port.send(echoRequest(1));
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect(packets).toBe(0);
    });
  });
}

describeSystem('driver errors and timing', () => {
  it('a device that another process has open is DEVICE_BUSY', () => {
    const tun = new Tun(`sfb${process.pid % 10000}`);
    try {
      expect(() => new Tun(tun.name)).toThrow(expect.objectContaining({ code: 'DEVICE_BUSY' }) as LinkError);
    } finally {
      tun.close();
    }
  });

  it('an emulated delay of 20 ms is kept to about a millisecond', async () => {
    const network = new RealTimeNetwork(1);
    const lateness: number[] = [];
    let sink: (packet: Uint8Array) => void = () => undefined;
    const sentAt: number[] = [];
    const silent: LinkEnd = { deliver: () => undefined, onSend: (use) => (sink = use) };
    const end: LinkEnd = {
      deliver: (packet) => void lateness.push(now() - sentAt[packet[0]!]! - 20_000),
      onSend: () => undefined,
    };
    network.link(silent, end, { ...PERFECT_LINK, delay: 20_000 }, PERFECT_LINK);
    for (let i = 0; i < 60; i++) {
      sentAt[i] = now();
      sink(new Uint8Array([i, 0, 0, 0]));
      network.run();
      await new Promise((resolve) => setTimeout(resolve, 7));
    }
    await new Promise((resolve) => setTimeout(resolve, 60));
    network.stop();
    expect(lateness).toHaveLength(60);
    const sorted = lateness.toSorted((a, b) => a - b);
    expect(sorted[0]!).toBeGreaterThan(-100);
    // The median is held to a millisecond; a busy machine may be late now and then.
    expect(sorted[30]!).toBeLessThan(1000);
  });
});
