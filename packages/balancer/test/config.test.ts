/** `lb.yaml`, changes of state, and what explains packets: mistakes are named with line and value. */
import { describe, expect, it } from 'vitest';
import { changed, ConfigError, explain, packetOf, parseConfig, plansOf, serverSet, setupScript, stateOf } from '@subflow/balancer/node';
import type { DataPlane, StateChange } from '@subflow/balancer/node';

const GOOD = `
name: edge
interface: eth0
services:
  - name: web
    address: 203.0.113.10
    port: 443
    servers:
      - { name: s1, id: 1, address: 192.0.2.11, ownPort: 20001 }
      - { name: s2, id: 2, address: 192.0.2.12, ownPort: 20002, weight: 2 }
`;

function problem(text: string): string {
  try {
    parseConfig(text, 'lb.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  return 'no problem';
}

describe('configuration', () => {
  it('has defaults for what most want', () => {
    const config = parseConfig(GOOD, 'lb.yaml');
    expect(config).toMatchObject({
      name: 'edge',
      dataPlane: 'xdp',
      mode: 'native',
      services: [{ design: 'beamer', forwarding: 'encapsulation', health: { type: 'tcp', interval: 1000, rise: 2, fall: 3 } }],
    });
  });

  it.each([
    ['an unknown key', GOOD.replace('port: 443', 'prot: 443'), 'lb.yaml:7: services[0].prot: '],
    ['no interface', GOOD.replace('interface: eth0\n', ''), 'expected the interface that clients'],
    [
      'a wrong address',
      GOOD.replace('192.0.2.12', '192.0.2.256'),
      'lb.yaml:10: services[0].servers[1].address: "192.0.2.256" is no address; expected IPv4 or IPv6',
    ],
    ['a wrong port', GOOD.replace('port: 443', 'port: 70000'), 'lb.yaml:7: services[0].port: 70000: '],
    ['a wrong design', GOOD.replace('    port: 443', '    port: 443\n    design: beemer'), 'lb.yaml:8: services[0].design: "beemer": '],
    ['the same id twice', GOOD.replace('id: 2', 'id: 1'), 'lb.yaml:10: services[0].servers[1].id: 1 is the id of "s1" already'],
    ['the same name twice', GOOD.replace('name: s2', 'name: s1'), 'lb.yaml:10: services[0].servers[1].name: "s1" is the name of another server'],
    ['an id out of range', GOOD.replace('id: 2', 'id: 300'), 'lb.yaml:10: services[0].servers[1].id: 300: '],
    [
      'own ports that meet',
      GOOD.replace('20002', '20001'),
      'lb.yaml:10: services[0].servers[1].ownPort: port 20001 of this address belongs to server "s1" already',
    ],
    ['an own port below 1024', GOOD.replace('20002', '80'), 'lb.yaml:10: services[0].servers[1].ownPort: 80: '],
    [
      'a service from port 1024 on with Beamer',
      GOOD.replace('port: 443', 'port: 8443'),
      'lb.yaml:7: services[0].port: 8443: with design "beamer" ports from 1024 on are servers\' own',
    ],
    [
      'Beamer without a tunnel',
      GOOD.replace('    port: 443', '    port: 443\n    forwarding: dsr'),
      'lb.yaml:8: services[0].forwarding: design "beamer" with forwarding "dsr" and data plane "xdp": Beamer tells the server in the tunnel',
    ],
    [
      'nat with xdp',
      GOOD.replace('    port: 443', '    port: 443\n    design: maglev\n    forwarding: nat'),
      'expected one of them, or data plane "nftables" or "userspace"',
    ],
    [
      'tokens with nft',
      `dataPlane: nftables\n${GOOD.replace('    port: 443', '    port: 443\n    design: token-learned\n    forwarding: dsr')}`,
      'nftables cannot hash a key to its token',
    ],
    ['a tunnel with nft', `dataPlane: nftables\n${GOOD}`, 'this kernel has no IP-in-IP that nftables could use'],
    [
      'link-layer addresses on TUN',
      `dataPlane: userspace\n${GOOD.replace('    port: 443', '    port: 443\n    design: maglev\n    forwarding: dsr')}`,
      'which has no link-layer addresses',
    ],
    ['no services', 'interface: eth0\nservices: []\n', 'lb.yaml:2: services: '],
    ['a text instead of YAML', '{{{', 'lb.yaml:1: '],
    ['an alias without its anchor', 'services: *x\n', 'lb.yaml'],
    [
      'a duration that is none',
      GOOD.replace('    port: 443', '    port: 443\n    health: { interval: soon }'),
      'lb.yaml:8: services[0].health.interval: "soon" is no duration; expected for example "500 ms"',
    ],
    [
      'overlapping services',
      `${GOOD}  - name: other\n    address: 203.0.113.10\n    port: 443\n    servers: []\n`,
      'lb.yaml:13: services[1].port: port 443 of this address belongs to service "web" already; services must not overlap',
    ],
    [
      'the same service name',
      `${GOOD}  - name: web\n    address: 203.0.113.11\n    port: 443\n    servers: []\n`,
      'lb.yaml:11: services[1].name: "web" is the name of another service',
    ],
    ['two kinds of store', `store: { log: /x, remote: "a:1" }\n${GOOD}`, 'lb.yaml:1: store: '],
  ])('names %s', (_, text, expected) => {
    expect(problem(text)).toContain(expected);
  });
});

describe('changes', () => {
  const config = parseConfig(GOOD, 'lb.yaml');
  const begin = () => stateOf(config, null, 1e15);
  const apply = (...all: StateChange[]) => all.reduce((state, one, i) => changed(config, state, one, 1e15 + i * 1e6), begin());

  it('make the next generation, or none when nothing changes', () => {
    const state = begin();
    expect(state.generation).toBe(1);
    const drained = changed(config, state, { do: 'drain', service: 'web', server: 's1' }, 1e15);
    expect(drained.generation).toBe(2);
    expect(changed(config, drained, { do: 'drain', service: 'web', server: 's1' }, 1e15)).toBe(drained);
    expect(state.services[0]!.servers[0]!.wanted).toBe('active');
  });

  it('hand buckets over: what had them is known as the previous server', () => {
    const [plan] = plansOf(config, apply({ do: 'add', service: 'web', server: { name: 's3', address: '192.0.2.13', ownPort: 20_003 } }));
    const { current, previous, ports } = plan!.buckets!;
    const share = (id: number): number => current.filter((one) => one === id).length / current.length;
    expect(share(3)).toBeCloseTo(0.25, 2);
    expect(share(2)).toBeCloseTo(0.5, 2);
    expect(current.every((one, i) => one !== 3 || previous[i] === 1 || previous[i] === 2)).toBe(true);
    expect(ports[20_003]).toBe(3);
  });

  it('do not believe checks when nobody is healthy', () => {
    const state = apply({ do: 'health', service: 'web', server: 's1', healthy: false }, { do: 'health', service: 'web', server: 's2', healthy: false });
    expect(serverSet(state.services[0]!, 3).takers).toHaveLength(2);
    const one = apply({ do: 'health', service: 'web', server: 's1', healthy: false });
    expect(serverSet(one.services[0]!, 2).takers.map((each) => each.name)).toEqual(['s2']);
  });

  it.each([
    [{ do: 'drain', service: 'mail', server: 's1' }, 'UNKNOWN_SERVICE', 'no service "mail"; expected web'],
    [{ do: 'drain', service: 'web', server: 's9' }, 'UNKNOWN_SERVER', 'has no server "s9"; expected s1, s2'],
    [{ do: 'weight', service: 'web', server: 's1', weight: -1 }, 'BAD_CHANGE', 'weight -1; expected 0 to 65535'],
    [{ do: 'weight', service: 'web', server: 's1', weight: Number.NaN }, 'BAD_CHANGE', 'weight NaN'],
    [{ do: 'add', service: 'web', server: { name: 's1', address: '192.0.2.1' } }, 'BAD_CHANGE', 'has a server "s1" already'],
    [{ do: 'add', service: 'web', server: { name: 's3', address: 'nowhere' } }, 'BAD_CHANGE', '"nowhere" is no address'],
    [{ do: 'add', service: 'web', server: { name: 's3', address: '192.0.2.3', id: 2 } }, 'BAD_SERVER', 'both have id 2'],
    [{ do: 'add', service: 'web', server: { name: 's3', address: '192.0.2.3', ownPort: 20_001 } }, 'BAD_CHANGE', 'own port 20001; expected a free one'],
  ] as [StateChange, string, string][])('refuse %j', (change, code, message) => {
    const state = begin();
    const before = JSON.stringify(state);
    expect(() => changed(config, state, change, 1e15)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) as string }) as Error);
    expect(JSON.stringify(state)).toBe(before);
  });

  it('keep what is known when the file changes', () => {
    const state = apply({ do: 'health', service: 'web', server: 's1', healthy: false });
    const more = parseConfig(GOOD.replace('weight: 2', 'weight: 5'), 'lb.yaml');
    const next = stateOf(more, state, 1e15);
    expect(next.generation).toBe(3);
    expect(next.services[0]!.servers).toMatchObject([{ healthy: false }, { weight: 5 }]);
  });
});

describe('explanations', () => {
  const plane = { name: 'userspace' } as DataPlane;
  const planOf = (design: string) =>
    plansOf(
      ...((config) => [config, stateOf(config, null, Date.now() * 1000)] as const)(
        parseConfig(GOOD.replace('    port: 443', `    port: 443\n    design: ${design}`), 'lb.yaml'),
      ),
    );
  const why = (design: string, text: string) => explain(packetOf(text), planOf(design), plane, Date.now() * 1000);

  it('say how a packet finds its server', () => {
    expect(why('beamer', '192.0.2.1:40000 > 203.0.113.10:443 syn')).toMatchObject({ service: 'web', reason: null });
    expect(why('beamer', '192.0.2.1:40000 > 203.0.113.10:20002 syn')).toMatchObject({
      server: 's2',
      steps: expect.arrayContaining(["port 20002 is a server's own"]) as string[],
    });
    expect(why('token-keys', '192.0.2.1:40000 > 203.0.113.10:443 syn token=0x02aabbcc').server).toBe('s2');
    expect(why('token-keys', '192.0.2.1:40000 > 203.0.113.10:443 ack tsecr=769').server).toBe('s1');
    expect(why('token-keys', '192.0.2.1:40000 > 203.0.113.10:443 syn token=0x09000000')).toMatchObject({ server: null, reason: 'unknownToken' });
    expect(why('token-learned', '192.0.2.1:40000 > 203.0.113.10:443 syn token=1').steps.join()).toContain('token 0x00000001 has not been learnt');
    expect(why('maglev', '192.0.2.1:40000 > 203.0.113.99:443 syn')).toMatchObject({ service: null });
    expect(why('beamer', '192.0.2.1:40000 > 203.0.113.10:20009 syn').service).toBeNull();
  });

  it.each([
    '',
    'hello',
    '1.2.3.4 > 5.6.7.8',
    '192.0.2.1:1 > 203.0.113.10:443 sin',
    '192.0.2.1:99999 > 203.0.113.10:443',
    '[2001:db8::1]:1 > 203.0.113.10:443',
    '4500',
  ])('refuse "%s"', (text) => {
    expect(() => packetOf(text)).toThrow(expect.objectContaining({ code: 'BAD_CHANGE' }) as Error);
  });
});

describe('setup of servers', () => {
  it('is a script', () => {
    const config = parseConfig(GOOD, 'lb.yaml');
    const script = setupScript({ config, server: 's2', device: 'eth0', balancers: [] });
    expect(script).toContain('sysctl -w net.mptcp.allow_join_initial_addr_port=0');
    expect(script).toContain('ip mptcp endpoint add 203.0.113.10 signal port 20002');
    expect(script).toContain('ip -4 address replace 203.0.113.10/32 dev lo');
    expect(script).toContain('advmss 1424');
    expect(() => setupScript({ config, server: 's9', device: 'eth0', balancers: [] })).toThrow('no server "s9" in the configuration; expected s1, s2');
  });
});
