/** Ports whose link goes down and comes up again: they say so, once each time, and carry packets as before. Everything in namespaces of its own. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { buildPacket, ipHeader, ipVersion, parseAddress, PROTOCOL } from '@subflow/wire';
import { Namespace, PacketSocketPort, PacketTap, Tun, vethPair } from '@subflow/link';
import type { PacketPort } from '@subflow/link';
import { describeSystem } from '../interop/require-system.ts';

const OURS = parseAddress('192.0.2.1');
const KERNEL = parseAddress('192.0.2.2');
const PATIENCE = 5000;
let serial = 0;

interface Rig {
  port: PacketPort;
  /** Where the port's device is, and its name there. */
  namespace: Namespace;
  device: string;
}

const undo: (() => void)[] = [];
afterEach(() => {
  for (const one of undo.splice(0).toReversed()) one();
});

function namespaceOf(label: string): Namespace {
  const namespace = new Namespace(`lnk${serial++}${label}`);
  undo.push(() => namespace.remove());
  return namespace;
}

/** A TUN device made here and moved away: where its link events are is found out on the way. */
function movedTun(offload: boolean): Rig {
  const namespace = namespaceOf('t');
  const port = new Tun(`sfl${process.pid % 10000}x${serial++}`, { offload });
  undo.push(() => port.close());
  return { port, namespace, device: port.name };
}

/** A packet socket in a namespace; the other end of its veth pair is a kernel in another one. */
function packetRig(): Rig & { peer: Namespace } {
  const namespace = namespaceOf('a');
  const peer = namespaceOf('b');
  vethPair(namespace, 'eth0', '198.51.100.1/24', peer, 'eth0', '192.0.2.2/24');
  const port = namespace.inside(() => new PacketSocketPort('eth0', { addresses: [{ address: OURS, bits: 24 }] }));
  undo.push(() => port.close());
  return { port, namespace, device: 'eth0', peer };
}

function echoRequest(sequence: number): Uint8Array {
  return buildPacket(ipHeader(OURS, KERNEL, PROTOCOL.icmp), {
    icmp: { kind: 'echo', version: 4, reply: false, code: 0, checksum: 0, identifier: 7, sequence, data: new Uint8Array(8) },
  });
}

/** Waits until `done`, at most {@link PATIENCE}; fails with what there was instead. */
async function until(done: () => boolean, instead: () => unknown): Promise<void> {
  for (const end = performance.now() + PATIENCE; !done();) {
    if (performance.now() > end) throw new Error(`not within ${PATIENCE} ms: ${JSON.stringify(instead())}`);
    await pause(5);
  }
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What a port reports, and the echo replies it receives. */
class Ear {
  readonly changes: boolean[] = [];
  replies = 0;
  private readonly port: PacketPort;

  constructor(port: PacketPort) {
    this.port = port;
    port.onPackets({
      packet: (_view, bytes, offset) => {
        if (ipVersion(bytes, offset) === 4) this.replies++;
      },
      batchEnd: () => undefined,
    });
    port.onLinkChange!((up) => this.changes.push(up));
  }

  async reports(...changes: boolean[]): Promise<void> {
    await until(
      () => this.changes.length >= changes.length,
      () => this.changes,
    );
    // A second report would come with the first.
    await pause(30);
    expect(this.changes).toEqual(changes);
  }

  async carries(): Promise<void> {
    const before = this.replies;
    let sequence = 0;
    await until(
      () => {
        if (this.replies === before) this.port.send(echoRequest(sequence++));
        return this.replies > before;
      },
      () => `${sequence} echo requests, no reply`,
    );
  }
}

describeSystem('links that go down and come up again', () => {
  it.each(['TUN with offload', 'TUN without offload', 'packet socket'])('%s: each change is reported once, and packets flow again', async (kind) => {
    const rig = kind === 'packet socket' ? packetRig() : movedTun(kind === 'TUN with offload');
    const ear = new Ear(rig.port);
    if (kind !== 'packet socket') rig.namespace.adopt(rig.device, '192.0.2.2/24');
    await ear.carries();
    for (let round = 0; round < 3; round++) {
      ear.changes.length = 0;
      rig.namespace.ip('link', 'set', rig.device, 'down');
      await ear.reports(false);
      rig.port.send(echoRequest(0));
      rig.namespace.ip('link', 'set', rig.device, 'up');
      await ear.reports(false, true);
      await ear.carries();
    }
  });

  it('a lost carrier is a link that is down; so is the end of the cable being taken away', async () => {
    const { port, peer } = packetRig();
    const ear = new Ear(port);
    await ear.carries();
    peer.ip('link', 'set', 'eth0', 'down');
    await ear.reports(false);
    peer.ip('link', 'set', 'eth0', 'up');
    await ear.reports(false, true);
    await ear.carries();
    peer.ip('link', 'delete', 'eth0');
    await ear.reports(false, true, false);
  });

  it('what says nothing about the link is not reported: MTU, alias, addresses, another interface, a port of a bridge that leaves it', async () => {
    const { port, namespace } = packetRig();
    const ear = new Ear(port);
    await ear.carries();
    namespace.ip('link', 'set', 'eth0', 'mtu', '1400');
    namespace.ip('link', 'set', 'eth0', 'alias', 'uplink');
    namespace.ip('address', 'add', '203.0.113.9/24', 'dev', 'eth0');
    namespace.ip('address', 'delete', '203.0.113.9/24', 'dev', 'eth0');
    namespace.ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1');
    namespace.ip('link', 'set', 'v0', 'up');
    namespace.ip('link', 'delete', 'v0');
    namespace.ip('link', 'add', 'br0', 'type', 'bridge');
    namespace.ip('link', 'set', 'eth0', 'master', 'br0');
    namespace.ip('link', 'set', 'eth0', 'nomaster');
    await pause(100);
    expect(ear.changes).toEqual([]);
    await ear.carries();
  });

  it('a packet socket on a link that is down says so at once, and when it comes up', async () => {
    const namespace = namespaceOf('a');
    const peer = namespaceOf('b');
    vethPair(namespace, 'eth0', '198.51.100.1/24', peer, 'eth0', '192.0.2.2/24');
    namespace.ip('link', 'set', 'eth0', 'down');
    const port = namespace.inside(() => new PacketSocketPort('eth0', { addresses: [{ address: OURS, bits: 24 }] }));
    undo.push(() => port.close());
    const ear = new Ear(port);
    expect(ear.changes).toEqual([false]);
    namespace.ip('link', 'set', 'eth0', 'up');
    await ear.reports(false, true);
    await ear.carries();
  });

  it('a device that was removed and is made again under the same name carries packets again, with another address of its own', async () => {
    const { port, namespace, peer } = packetRig();
    const ear = new Ear(port);
    await ear.carries();
    namespace.ip('link', 'delete', 'eth0');
    await ear.reports(false);
    vethPair(namespace, 'eth0', '198.51.100.1/24', peer, 'eth0', '192.0.2.2/24');
    await ear.reports(false, true);
    await ear.carries();
  });

  it('a TUN device is followed into one namespace after another, under another name', async () => {
    const { port, namespace, device } = movedTun(true);
    const ear = new Ear(port);
    namespace.adopt(device, '192.0.2.2/24');
    await ear.carries();
    const other = namespaceOf('o');
    namespace.ip('link', 'set', device, 'netns', other.name);
    await ear.reports(true, false);
    other.ip('link', 'set', device, 'name', 'uplink');
    other.ip('address', 'add', '192.0.2.2/24', 'dev', 'uplink');
    other.ip('link', 'set', 'uplink', 'up');
    await ear.reports(true, false, true);
    await ear.carries();
  });

  it('a TUN device that is deleted is down, its port is closed, and nothing is written into what gets its descriptor', async () => {
    const { port, namespace, device } = movedTun(true);
    const ear = new Ear(port);
    namespace.adopt(device, '192.0.2.2/24');
    await ear.reports(true);
    namespace.ip('link', 'delete', device);
    await ear.reports(true, false);
    expect(tunDescriptors()).toBe(0);
    port.send(echoRequest(1));
    expect((port as Tun).writeErrors).toEqual(new Map());
  });

  it('events that were lost in a flood are asked for', async () => {
    const { port, namespace } = packetRig();
    const ear = new Ear(port);
    await ear.carries();
    const flood = Array.from({ length: 4000 }, (_, i) => `link set lo alias n${i}`);
    // The event loop stands still meanwhile: the socket's buffer overflows long before the last line, which is the one about ours.
    const batch = spawnSync('ip', ['-n', namespace.name, '-batch', '-'], { input: [...flood, 'link set eth0 down'].join('\n'), timeout: 30_000 });
    expect(batch.status).toBe(0);
    await ear.reports(false);
  });

  it('all ports of a namespace share one monitor, which is closed with the last', async () => {
    const namespace = namespaceOf('a');
    const ports = Array.from({ length: 4 }, (_, i) => {
      namespace.ip('link', 'add', `v${i}`, 'type', 'veth', 'peer', 'name', `w${i}`);
      for (const end of ['v', 'w']) namespace.ip('link', 'set', `${end}${i}`, 'up');
      return namespace.inside(() => new PacketSocketPort(`v${i}`, { addresses: [{ address: OURS, bits: 24 }] }));
    });
    const before = netlinkDescriptors();
    const ears = ports.map((port) => new Ear(port));
    // Questions, events, and the duplicate of the latter that is polled.
    expect(netlinkDescriptors() - before).toBe(3);
    namespace.ip('link', 'set', 'v2', 'down');
    await ears[2]!.reports(false);
    expect(ears.map((ear) => ear.changes.length)).toEqual([0, 0, 1, 0]);
    ports.slice(1).forEach((port) => port.close());
    expect(netlinkDescriptors()).toBe(before + 3 - 2 * 3);
    ports[0]!.close();
    expect(netlinkDescriptors()).toBe(before - 2 * 4);
  });

  it('a tap on one interface goes on after it was down', async () => {
    const { namespace, peer } = packetRig();
    let seen = 0;
    const tap = namespace.inside(() => new PacketTap({}, () => seen++));
    undo.push(() => tap.close());
    for (let round = 0; round < 2; round++) {
      peer.ip('link', 'set', 'eth0', 'down');
      namespace.ip('link', 'set', 'eth0', 'down');
      await pause(50);
      namespace.ip('link', 'set', 'eth0', 'up');
      peer.ip('link', 'set', 'eth0', 'up');
      seen = 0;
      await until(
        () => {
          spawnSync('ip', ['netns', 'exec', peer.name, 'ping', '-c', '1', '-W', '1', '198.51.100.1']);
          return seen > 0;
        },
        () => seen,
      );
    }
  });
});

function descriptors(pattern: RegExp): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return pattern.test(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false;
    }
  }).length;
}

const tunDescriptors = (): number => descriptors(/^\/dev\/net\/tun$/);

/** Sockets of this process: nothing but netlink sockets is opened between two counts. */
const netlinkDescriptors = (): number => descriptors(/^socket:/);
