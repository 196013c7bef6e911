/** The xdp program and the TypeScript cores decide alike, packet by packet, also about packets that nobody should send. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BpfMap, loadXdp, MAP_TYPE, testRun, XDP } from '@subflow/link';
import { BeamerCore, decapsulate, ServerSet, SoftwareBalancer } from '@subflow/balancer';
import type { Decapsulated } from '@subflow/balancer';
import { bpfObject, coreOf } from '@subflow/balancer/node';
import type { DesignName, ServicePlan } from '@subflow/balancer/node';
import { Random } from '@subflow/emulator';
import { buildPacket, ETHERNET, ethernetFrame, FLAG, ICMP, ICMPV6, ipHeader, ipv4Checksum, parseAddress, PROTOCOL } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { GENERATION_SIZE, generationValue, serviceKey, serviceValue } from '../../packages/balancer/node/xdp/layout.ts';
import { slotsOf } from '../../packages/balancer/node/plan.ts';
import { describeSystem } from '../interop/require-system.ts';

/** Octets that an Ethernet frame carries at least, without its check sequence (IEEE 802.3). */
const LEAST_PAYLOAD = 46;

const SERVERS = 4;
const PACKETS = 1500;

interface Kernel {
  run: (packet: Uint8Array) => { verdict: number; server: number; packet: Uint8Array };
  close: () => void;
}

function planOf(design: DesignName, family: 4 | 6, forwarding: 'dsr' | 'encapsulation', now: number): ServicePlan {
  const servers = new ServerSet(
    Array.from({ length: SERVERS }, (_, i) => ({ id: i + 1, name: `s${i + 1}`, weight: 1, state: i === 2 ? ('draining' as const) : ('active' as const) })),
  );
  const details = new Map(
    servers.servers.map((one) => [
      one.id,
      { address: parseAddress(family === 4 ? `198.51.100.${one.id}` : `2001:db8:1::${one.id}`), port: 443, ownPort: 20_000 + one.id },
    ]),
  );
  let buckets = null;
  if (design === 'beamer') {
    const core = new BeamerCore(undefined, 9);
    core.setServers(servers.with({ s4: null }), now - 100e6);
    core.setPorts(new Map(servers.servers.map((one) => [20_000 + one.id, one.id])));
    core.setServers(servers, now - 50e6);
    buckets = core.table;
  }
  return {
    id: 3,
    name: 'web',
    address: parseAddress(family === 4 ? '203.0.113.10' : '2001:db8:ff::10'),
    port: 443,
    design,
    forwarding,
    seed: 9,
    servers,
    details,
    buckets,
  };
}

/** The program with one service, without an interface: frames go through by hand. */
function kernelOf(plan: ServicePlan, own: { own4: Uint8Array; own6: Uint8Array }): Kernel {
  const object = bpfObject('balancer');
  const maps = new Map<string, BpfMap>();
  for (const one of object.maps.toSorted((a, b) => Number(a.inner !== null) - Number(b.inner !== null)))
    maps.set(one.name, BpfMap.create(one.name, one, one.inner === null ? null : maps.get(one.inner)!));
  const hops = new Map(
    plan.servers.servers.map((one) => [
      one.id,
      { device: 'x', mac: Uint8Array.of(2, 0, 0, 0, 0, one.id), mtu: 1500, ownMac: new Uint8Array(6), source: '', index: 1 },
    ]),
  );
  const value = generationValue(plan, {
    slots: slotsOf(plan),
    hops,
    ...own,
    mtu: 1500,
    mac: new Uint8Array(6),
    clockOffset: Date.now() * 1000 - Number(process.hrtime.bigint() / 1000n),
  });
  const inner = BpfMap.create('generation', { type: MAP_TYPE.array, keySize: 4, valueSize: GENERATION_SIZE, entries: 1, flags: 0 });
  inner.update(new Uint8Array(4), value);
  maps.get('generations')!.updateMap(new Uint8Array(Uint32Array.of(plan.id).buffer), inner);
  for (const port of [443, 0, ...[...plan.details.values()].map((one) => one.ownPort!)])
    maps.get('services')!.update(serviceKey(plan.address, port), serviceValue(plan));
  const program = loadXdp('parity', object.instructions('xdp', maps));
  return {
    run: (packet) => {
      const frame = new Uint8Array(ETHERNET.header + Math.max(packet.length, LEAST_PAYLOAD));
      frame.set(ethernetFrame(packet, new Uint8Array(6), new Uint8Array(6)));
      const { verdict, data } = testRun(program, frame);
      return { verdict, server: verdict === XDP.pass || verdict === XDP.drop ? 0 : data[5]!, packet: data.slice(ETHERNET.header) };
    },
    close: () => {
      for (const map of maps.values()) map.close();
      inner.close();
    },
  };
}

/** Packets of some clients: handshakes, joins, data, ends, fragments, errors; some are broken afterwards. */
function* packets(random: Random, plan: ServicePlan, count: number): Generator<Uint8Array> {
  const v4 = plan.address.length === 4;
  const pick = <T>(all: readonly T[]): T => all[random.uint32() % all.length]!;
  for (let i = 0; i < count; i++) {
    const client = parseAddress(v4 ? `192.0.2.${1 + (random.uint32() % 6)}` : `2001:db8:2::${1 + (random.uint32() % 6)}`);
    const options: TcpOption[] = [];
    if (random.uint32() % 3 > 0) options.push({ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: 1, echo: pick([0, 1, 2, 3, 4, 9, 0x1234_5602]) });
    if (random.uint32() % 4 === 0) options.unshift({ kind: 'mss', value: 1460 });
    const shape = random.uint32() % 8;
    const key = { high: 0x1111 * (random.uint32() % 5), low: 77 };
    if (shape === 0)
      options.push({
        kind: 'mptcp',
        option: { subtype: 'join-syn', flags: 0, addressId: 1, token: pick([0x0100_0000, 0x0412_3456, 0x0900_0000, random.uint32()]), nonce: 1 },
      });
    if (shape === 1)
      options.push({
        kind: 'mptcp',
        option: { subtype: 'capable', version: pick([0, 1]), flags: 1, senderKey: { high: 1, low: 2 }, receiverKey: key, dataLength: null, checksum: null },
      });
    const flags = shape === 0 ? FLAG.syn : pick([FLAG.syn, FLAG.ack, FLAG.ack, FLAG.ack | FLAG.psh, FLAG.fin | FLAG.ack, FLAG.rst]);
    const tcp = {
      sourcePort: 40_000 + (random.uint32() % 5),
      destinationPort: pick([443, 443, 443, 20_001, 20_002, 20_009, 80]),
      seq: 1,
      ack: 1,
      headerLength: 20,
      reserved: 0,
      flags,
      window: 100,
      checksum: 0,
      urgent: 0,
      options,
    };
    let packet = buildPacket(ipHeader(client, plan.address, PROTOCOL.tcp), { tcp, payload: new Uint8Array(random.uint32() % 40) });
    if (shape === 2) {
      // An error about what a server sent.
      const quote = buildPacket(ipHeader(plan.address, client, PROTOCOL.tcp), {
        tcp: {
          ...tcp,
          sourcePort: tcp.destinationPort,
          destinationPort: tcp.sourcePort,
          options: [{ kind: 'timestamps', value: pick([1, 2, 0x0503]), echo: 5 }],
        },
        payload: new Uint8Array(50),
      });
      packet = buildPacket(ipHeader(parseAddress(v4 ? '198.51.100.1' : '2001:db8:1::1'), plan.address, v4 ? PROTOCOL.icmp : PROTOCOL.icmpv6), {
        icmp: {
          kind: 'error',
          version: v4 ? 4 : 6,
          type: v4 ? ICMP.unreachable : ICMPV6.packetTooBig,
          code: v4 ? 4 : 0,
          checksum: 0,
          rest: 1400,
          quote: quote.slice(0, pick([28, 48, 60, 90])),
        },
      });
    }
    if (shape === 3 && v4) {
      const view = new DataView(packet.buffer);
      view.setUint16(4, random.uint32() % 4);
      view.setUint16(6, pick([0x2000, 0x0005, 0x2005]));
      view.setUint16(10, 0);
      view.setUint16(10, ipv4Checksum(packet, 0, 20));
    }
    // A broken first fragment would teach the program what it does not teach the core.
    if (shape !== 3 && random.uint32() % 10 === 0) packet[random.uint32() % packet.length] = random.uint32() & 0xff;
    if (shape !== 3 && random.uint32() % 20 === 0) packet = packet.slice(0, random.uint32() % packet.length);
    yield packet;
  }
}

function fieldsOf(tunnel: Decapsulated): (string | number)[] {
  const hex = (bytes: Uint8Array | null): string => (bytes === null ? '' : Buffer.from(bytes).toString('hex'));
  return [hex(tunnel.packet), hex(tunnel.source), hex(tunnel.destination), hex(tunnel.previous), tunnel.generation];
}

describeSystem('bpf/balancer.c beside the cores', () => {
  const DESIGNS: readonly DesignName[] = [
    'stateful',
    'modulo',
    'crc-ranges',
    'maglev',
    'rendezvous',
    'token-keys',
    'token-learned',
    'direct-address',
    'beamer',
  ];
  const own = { own4: parseAddress('198.51.100.200'), own6: parseAddress('2001:db8:1::200') };
  let kernel: Kernel | null = null;

  beforeAll(() => {
    kernel = null;
  });
  afterAll(() => kernel?.close());

  for (const design of DESIGNS) {
    for (const family of [4, 6] as const) {
      it(`${design}, IPv${family}`, { timeout: 60_000 }, () => {
        const forwarding = design === 'beamer' ? 'encapsulation' : 'dsr';
        const now = Date.now() * 1000;
        const plan = planOf(design, family, forwarding, now);
        kernel = kernelOf(plan, own);
        const software = new SoftwareBalancer([own.own4, own.own6]);
        const ownPorts = [...plan.details.values()].map((one) => one.ownPort!);
        software.setServices([
          {
            name: 'web',
            address: plan.address,
            port: 443,
            ownPorts,
            core: coreOf(plan, now),
            forwarding,
            targets: plan.details,
            generation: plan.servers.generation,
          },
        ]);
        let forwarded = 0;
        let differ = 0;
        for (const packet of packets(new Random(family * 100 + DESIGNS.indexOf(design)), plan, PACKETS)) {
          const theirs = kernel.run(packet);
          const ours = software.handle(packet.slice(), now);
          if (ours.kind !== 'forward') {
            // The program leaves it to servers to look at lengths and IPv4's checksum; what it cannot read at all it passes on to the system.
            if (theirs.server !== 0 && !(ours.kind === 'drop' && ours.reason === 'malformed')) differ++;
            continue;
          }
          forwarded++;
          if (theirs.server !== ours.server) {
            differ++;
            continue;
          }
          if (forwarding !== 'encapsulation') continue;
          const [a, b] = [decapsulate(theirs.packet)!, decapsulate(ours.packet)!];
          expect(fieldsOf(a)).toEqual(fieldsOf(b));
        }
        expect(forwarded).toBeGreaterThan(PACKETS / 4);
        expect(differ).toBe(0);
        kernel.close();
        kernel = null;
      });
    }
  }
});
