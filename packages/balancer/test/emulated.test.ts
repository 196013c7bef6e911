/** The emulated data plane: real packets of our own stack, clients and servers, in virtual time; every design end to end. */
import { describe, expect, it } from 'vitest';
import { FLAG, formatAddress, isMalformed, parsePacketValue } from '@subflow/wire';
import type { Packet } from '@subflow/wire';
import { DESIGNS, EmulatedFarm, FIRST_OWN_PORT } from '@subflow/balancer';
import type { DesignId, EmulatedFarmOptions } from '@subflow/balancer';

const SECOND = 1e6;
const CONNECTIONS = 60;

function farmOf(design: DesignId, more: Partial<EmulatedFarmOptions> = {}): EmulatedFarm {
  return new EmulatedFarm({
    seed: 5,
    design: (seed) => DESIGNS[design].make(seed, 4096),
    forwarding: design === 'f' ? 'encapsulation' : 'dsr',
    announce: design === 'f' ? 'own-port' : design === 'e' ? 'own-address' : 'nothing',
    nameServers: design === 'c',
    servers: 4,
    ...more,
  });
}

function open(farm: EmulatedFarm, count = CONNECTIONS): void {
  for (let i = 0; i < count; i++) {
    farm.connect();
    farm.run(20_000);
  }
  farm.run(2 * SECOND);
}

function parsed(bytes: Uint8Array): Packet | null {
  const packet = parsePacketValue(bytes);
  return isMalformed(packet) ? null : packet;
}

describe('joins find their server', () => {
  for (const design of ['c', 'd', 'e', 'f'] as const) {
    for (const version of [0, 1] as const) {
      // Version 0 has no flag C (RFC 6824): a client joins to where it began, whatever is announced.
      if (version === 0 && (design === 'e' || design === 'f')) continue;
      for (const family of [4, 6] as const) {
        it(`${design}: all of them, version ${version}, IPv${family}`, () => {
          // With IPv6 an announced port does not fit beside timestamps: the address instead.
          const farm = farmOf(design, { version, family, ...(design === 'f' && family === 6 ? { announce: 'own-address' as const } : {}) });
          open(farm);
          const facts = farm.facts();
          expect(facts).toMatchObject({ alive: CONNECTIONS, joined: CONNECTIONS, subflows: 2 * CONNECTIONS });
          expect(facts.servers.size).toBe(4);
          expect(facts.servers.has(0)).toBe(false);
        });
      }
    }
  }

  for (const design of ['a', 'b-maglev'] as const) {
    it(`${design}: about one in four`, () => {
      const farm = farmOf(design);
      open(farm);
      const { alive, joined } = farm.facts();
      expect(alive).toBe(CONNECTIONS);
      expect(joined).toBeGreaterThan(3);
      expect(joined).toBeLessThan(29);
    });
  }

  for (const forwarding of ['dsr', 'nat', 'encapsulation'] as const) {
    it(`d with ${forwarding}: the same`, () => {
      const farm = farmOf('d', { forwarding });
      open(farm);
      expect(farm.facts()).toMatchObject({ alive: CONNECTIONS, joined: CONNECTIONS });
    });
  }
});

describe('what servers say', () => {
  it('c: tokens and timestamps name the server, and TSvals never run backwards', () => {
    const last = new Map<string, number>();
    let seen = 0;
    const farm = farmOf('c', {
      tap: (bytes, place) => {
        const packet = place === 'client' ? parsed(bytes) : null;
        const option = packet?.tcp?.options.find((one) => one.kind === 'timestamps');
        if (packet === null || packet.tcp === null || option === undefined) return;
        const key = `${packet.tcp.sourcePort} ${packet.tcp.destinationPort} ${formatAddress(packet.ip.destination)}`;
        expect(((option.value - (last.get(key) ?? option.value)) | 0) >= 0).toBe(true);
        last.set(key, option.value);
        expect(option.value & 0xff).toBeGreaterThan(0);
        expect(option.value & 0xff).toBeLessThanOrEqual(4);
        seen++;
      },
    });
    open(farm, 20);
    expect(seen).toBeGreaterThan(60);
    for (const server of farm.servers) for (const connection of server.accepted) expect(connection.local!.token >>> 24).toBe(server.id);
  });

  it('e: flag C in the SYN+ACK, the own address announced, joins past the balancer', () => {
    let denied = 0;
    const announced = new Set<string>();
    let joins = 0;
    const farm = farmOf('e', {
      tap: (bytes, place) => {
        const packet = parsed(bytes);
        for (const one of packet?.tcp?.options ?? []) {
          if (one.kind !== 'mptcp') continue;
          if (place === 'client' && one.option.subtype === 'capable' && (packet!.tcp!.flags & FLAG.syn) !== 0 && (one.option.flags & 0x20) !== 0) denied++;
          if (place === 'client' && one.option.subtype === 'add-addr') announced.add(formatAddress(one.option.address));
          if (one.option.subtype === 'join-syn') {
            expect(place).toMatch(/^server/);
            joins++;
          }
        }
      },
    });
    open(farm, 30);
    expect(denied).toBe(30);
    expect(joins).toBe(30);
    expect([...announced].every((one) => one.startsWith('198.51.100.'))).toBe(true);
  });

  it('f: joins go to the own port, through the balancer', () => {
    const ports = new Set<number>();
    const farm = farmOf('f', {
      tap: (bytes, place) => {
        const packet = place === 'balancer' ? parsed(bytes) : null;
        if (packet?.tcp?.options.some((one) => one.kind === 'mptcp' && one.option.subtype === 'join-syn') === true) ports.add(packet.tcp.destinationPort);
      },
    });
    open(farm, 30);
    expect([...ports].every((port) => port >= FIRST_OWN_PORT && port < FIRST_OWN_PORT + 4)).toBe(true);
    expect(farm.facts().joined).toBe(30);
  });
});

describe('changes', () => {
  const added = (farm: EmulatedFarm) => farm.set.with({ s4: { id: 4, weight: 1, state: 'active' } });

  it('f: nothing is lost when a server is added, drained, or its weight changes', () => {
    for (const change of ['added', 'drained', 'weight'] as const) {
      const farm = farmOf('f', { active: 3 });
      open(farm);
      if (change === 'added') farm.change(added(farm));
      else if (change === 'drained') farm.change(farm.set.with({ s1: { state: 'draining' } }));
      else farm.change(farm.set.with({ s1: { weight: 3 } }));
      farm.run(10 * SECOND);
      expect(farm.facts(), change).toMatchObject({ alive: CONNECTIONS, subflows: 2 * CONNECTIONS });
      expect(
        farm.servers.reduce((sum, one) => sum + one.shim.chained, 0),
        change,
      ).toBeGreaterThan(0);
    }
  });

  it('f: two changes within four minutes lose only buckets that moved twice', () => {
    const farm = farmOf('f', { active: 3 });
    open(farm);
    farm.change(added(farm));
    farm.run(60 * SECOND);
    farm.change(farm.set.with({ s1: { state: 'draining' } }));
    farm.run(10 * SECOND);
    // Oldest buckets go first: none has to move twice here.
    expect(farm.facts().alive).toBe(CONNECTIONS);
  });

  for (const design of ['b-maglev', 'c', 'e', 'f'] as const) {
    it(`${design}: nothing is lost when the balancer is replaced by a fresh one`, () => {
      const farm = farmOf(design);
      open(farm);
      const before = farm.facts();
      farm.replaceBalancer(0);
      farm.run(10 * SECOND);
      expect(farm.facts()).toEqual(before);
    });
  }

  it('f: a balancer that is one generation behind loses nothing', () => {
    const farm = farmOf('f', { active: 3, balancers: 2 });
    open(farm);
    farm.change(added(farm), [1]);
    farm.run(10 * SECOND);
    expect(farm.facts()).toMatchObject({ alive: CONNECTIONS, subflows: 2 * CONNECTIONS });
  });

  it('b: a new server takes connections from the others, some are lost; c keeps all', () => {
    const b = farmOf('b-maglev', { active: 3 });
    open(b);
    b.change(added(b));
    b.run(10 * SECOND);
    expect(b.facts().alive).toBeLessThan(CONNECTIONS);
    expect(b.facts().alive).toBeGreaterThan(CONNECTIONS / 2);
    const c = farmOf('c', { active: 3 });
    open(c);
    c.change(added(c));
    c.run(10 * SECOND);
    expect(c.facts()).toMatchObject({ alive: CONNECTIONS, subflows: 2 * CONNECTIONS });
  });
});

describe('faults', () => {
  it('d learns from the first data when the third ACK is lost', () => {
    const lost = new Set<string>();
    const farm = farmOf('d', {
      lose: (bytes, place) => {
        const packet = place === 'balancer' ? parsed(bytes) : null;
        const third = packet?.tcp?.options.some(
          (one) => one.kind === 'mptcp' && one.option.subtype === 'capable' && one.option.receiverKey !== null && one.option.dataLength === null,
        );
        if (third !== true) return false;
        const key = String(packet!.tcp!.sourcePort);
        if (lost.has(key)) return false;
        lost.add(key);
        return true;
      },
    });
    for (let i = 0; i < 20; i++) {
      const connection = farm.connect();
      farm.run(20_000);
      connection.write(new Uint8Array(100), farm.agenda.now);
      farm.client.pump();
      farm.run(20_000);
    }
    farm.run(5 * SECOND);
    expect(lost.size).toBe(20);
    expect(farm.facts()).toMatchObject({ alive: 20, joined: 20 });
  });

  it('tells clients how large packets may be when a tunnel takes room, on the right subflow', () => {
    const farm = farmOf('f', { mtu: 1500 });
    open(farm, 10);
    for (const connection of farm.connections) connection.write(new Uint8Array(200_000), farm.agenda.now);
    farm.client.pump();
    farm.run(20 * SECOND);
    const received = farm.servers.flatMap((one) => one.accepted.map((connection) => connection.readable));
    expect(received.reduce((sum, one) => sum + one, 0)).toBe(10 * 200_000);
    const tooBig = farm.balancers[0]!.software.counters.get('web')!.get('tooBig') ?? 0;
    expect(tooBig).toBeGreaterThan(0);
    expect(tooBig).toBeLessThan(10 * 2 * 200);
  });

  it('c under a flood: cookies keep the name of the server in their timestamps, connections are plain TCP and reach it', () => {
    const farm = farmOf('c', { synCookies: true });
    open(farm, 40);
    expect(farm.facts()).toMatchObject({ alive: 40, joined: 0 });
    expect(farm.connections.every((one) => one.fallbackReason !== null)).toBe(true);
    // A change of the hash's table: timestamps lead on to the same servers.
    farm.change(farm.set.with({ s1: { state: 'draining' } }));
    farm.run(10 * SECOND);
    expect(farm.facts().alive).toBe(40);
    expect(farm.servers.every((one) => one.accepted.length > 0)).toBe(true);
  });

  it('a server that crashes takes its own connections with it and no others', () => {
    const farm = farmOf('f', { servers: 4 });
    open(farm);
    const { servers } = farm.facts();
    farm.servers[1]!.up = false;
    farm.change(farm.set.with({ s2: { state: 'down' } }));
    farm.run(20 * SECOND);
    const after = farm.facts();
    expect(after.servers.has(2)).toBe(false);
    for (const id of [1, 3, 4]) expect(after.servers.get(id)).toBe(servers.get(id));
  });

  it('a balancer that dies among three loses nothing of e and f', () => {
    for (const design of ['e', 'f'] as const) {
      const farm = farmOf(design, { balancers: 3 });
      open(farm);
      farm.balancers[1]!.up = false;
      farm.run(10 * SECOND);
      expect(farm.facts(), design).toMatchObject({ alive: CONNECTIONS, subflows: 2 * CONNECTIONS });
    }
  });

  it('does the same every time with the same seed', () => {
    const run = (): string => {
      const lines: string[] = [];
      const farm = farmOf('d', { tap: (bytes, place, now) => lines.push(`${now} ${place} ${bytes.length}`) });
      open(farm, 5);
      return lines.join('\n');
    };
    expect(run()).toBe(run());
  });
});
