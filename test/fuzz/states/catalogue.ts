/** The hand-made packets: flags × option × place of the numbers × payload, as far as they can make a difference. */
import type { Subflow } from '@subflow/stack';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { newPassiveFlow } from './scene.ts';
import type { Scene } from './scene.ts';

export interface HandMade {
  name: string;
  send(scene: Scene): void;
}

type Place = 'exact' | 'old' | 'next' | 'ahead' | 'edge' | 'far';

const PAYLOAD = new Uint8Array(1000).map((_, i) => i * 7);
const NUMBER = { high: 0x0102_0304, low: 0x0506_0708 };

/** Options by name; each is made for the scene, so that keys, tokens and HMACs can be right. */
const OPTIONS: Readonly<Record<string, (scene: Scene, payload: Uint8Array) => TcpOption[]>> = {
  none: () => [],
  syn: () => [
    { kind: 'mss', value: 1460 },
    { kind: 'sack-permitted' },
    { kind: 'timestamps', value: 1, echo: 0 },
    { kind: 'nop' },
    { kind: 'window-scale', shift: 7 },
  ],
  'mss 0': () => [
    { kind: 'mss', value: 0 },
    { kind: 'window-scale', shift: 255 },
  ],
  timestamps: () => [{ kind: 'timestamps', value: 9, echo: 9 }],
  sack: (scene) => {
    const { ack } = scene.numbers(scene.flow);
    return [
      {
        kind: 'sack',
        blocks: [
          [(ack - 100) >>> 0, (ack - 10) >>> 0],
          [(ack - 1) >>> 0, (ack + 5000) >>> 0],
        ],
      },
    ];
  },
  'fast open': () => [{ kind: 'fast-open', cookie: new Uint8Array(8) }],
  'capable, no key': (scene) => [scene.capable()],
  'capable, a key': (scene) => [scene.capable({ senderKey: scene.peerKey })],
  'capable, both keys': (scene) => [scene.capable({ senderKey: scene.peerKey, receiverKey: scene.hostKey })],
  'capable, wrong keys': (scene) => [scene.capable({ senderKey: NUMBER, receiverKey: NUMBER })],
  'capable, both keys and data': (scene, payload) => [scene.capable({ senderKey: scene.peerKey, receiverKey: scene.hostKey, dataLength: payload.length })],
  'capable of the other version': (scene) => [scene.capable({ version: 1 - scene.version, senderKey: scene.version === 1 ? scene.peerKey : null })],
  'capable twice': (scene) => [scene.capable(), scene.capable({ version: 1 - scene.version, senderKey: scene.peerKey })],
  'join SYN': (scene) => [scene.joinSyn(scene.flow)],
  'join SYN, unknown token': (scene) => [scene.joinSyn(scene.flow, 1)],
  'join SYN and capable': (scene) => [scene.joinSyn(scene.flow), scene.capable()],
  'join SYN+ACK': (scene) => [scene.joinSynAck(scene.flow)],
  'join SYN+ACK, wrong HMAC': (scene) => [scene.mptcp({ subtype: 'join-synack', flags: 0, addressId: 9, hmac: new Uint8Array(8), nonce: 5 })],
  'join ACK': (scene) => [scene.joinAck(scene.flow)],
  'join ACK, wrong HMAC': (scene) => [scene.mptcp({ subtype: 'join-ack', reserved: 0, hmac: new Uint8Array(20) })],
  DATA_ACK: (scene) => [scene.dss(new Uint8Array(0))],
  'DATA_ACK beyond': (scene) => [scene.dss(new Uint8Array(0), { ack: 100_000 })],
  mapping: (scene, payload) => [scene.dss(payload, { mapping: true })],
  'mapping of data that was there': (scene, payload) => [scene.dss(payload, { mapping: true, at: 1 })],
  'mapping far ahead': (scene, payload) => [scene.dss(payload, { mapping: true, at: 2 ** 40 })],
  'mapping too long': (scene, payload) => [scene.dss(payload, { mapping: true, length: 65_535 })],
  'infinite mapping': (scene, payload) => [scene.dss(payload, { mapping: true, length: 0 })],
  'mapping with a wrong checksum': (scene, payload) => [scene.dss(payload, { mapping: true, checksum: 7 })],
  DATA_FIN: (scene, payload) => [scene.dss(payload, { fin: true })],
  'DATA_FIN acknowledging ours': (scene, payload) => [scene.dss(payload, { fin: true, ack: (scene.hasConnection ? scene.connection.dataNxt : 1) + 1 })],
  'DATA_FIN ahead': (scene, payload) => [scene.dss(payload, { fin: true, at: scene.dataNext + 3000 })],
  ADD_ADDR: (scene) => [scene.addAddress(11, scene.further)],
  'ADD_ADDR, no HMAC': (scene) => add(scene, { hmac: new Uint8Array(8) }),
  'ADD_ADDR of the host itself': (scene) => [scene.addAddress(12, scene.local)],
  'ADD_ADDR, echo': (scene) => add(scene, { flags: scene.version === 0 ? 4 : 1, hmac: null }),
  'ADD_ADDR of the other family with a port': (scene) => add(scene, { address: new Uint8Array(scene.v6 ? 4 : 16).fill(9), port: 99 }),
  'REMOVE_ADDR 0': (scene) => [scene.mptcp({ subtype: 'remove-addr', flags: 0, addressIds: [0] })],
  'REMOVE_ADDR, many': (scene) => [scene.mptcp({ subtype: 'remove-addr', flags: 0, addressIds: [9, 3, 0, 255] })],
  PRIO: (scene) => [scene.mptcp({ subtype: 'prio', flags: 1, addressId: null })],
  'PRIO of an address': (scene) => [scene.mptcp({ subtype: 'prio', flags: 1, addressId: 9 })],
  FAIL: (scene) => [scene.mptcp({ subtype: 'fail', reserved: 0, dsn: NUMBER })],
  FASTCLOSE: (scene) => [scene.mptcp({ subtype: 'fastclose', reserved: 0, receiverKey: scene.hostKey })],
  'FASTCLOSE, wrong key': (scene) => [scene.mptcp({ subtype: 'fastclose', reserved: 0, receiverKey: NUMBER })],
  TCPRST: (scene) => [scene.mptcp({ subtype: 'tcprst', flags: 1, reason: 4 })],
  'unknown subtype': (scene) => [scene.mptcp({ subtype: 'unknown', data: Uint8Array.of(0xf0, 1, 2) })],
  'too short': (scene) => [scene.mptcp({ subtype: 'unknown', data: Uint8Array.of(0x10) })],
};

function add(scene: Scene, more: Partial<Extract<MptcpOption, { subtype: 'add-addr' }>>): TcpOption[] {
  const option = scene.addAddress(13, scene.further);
  return option.kind === 'mptcp' && option.option.subtype === 'add-addr' ? [scene.mptcp({ ...option.option, ...more })] : [];
}

const FLAGS = {
  ACK: 16,
  SYN: 2,
  'SYN+ACK': 18,
  RST: 4,
  'RST+ACK': 20,
  'FIN+ACK': 17,
  'SYN+RST': 6,
  'SYN+FIN': 3,
  none: 0,
  all: 63,
} as const;

/** Where a segment lies beside what the host expects, in octets. */
const PLACES: Readonly<Record<Place, number>> = { exact: 0, old: -1, next: 1, ahead: 500, edge: 262_144, far: 1_000_000_000 };

export function catalogue(): HandMade[] {
  const out: HandMade[] = [];
  const packet = (flags: keyof typeof FLAGS, option: string, seq: Place, ack: Place, size: number): void =>
    void out.push({
      name: `${flags}, ${option}, SEQ ${seq}, ACK ${ack}, ${size} bytes`,
      send(scene) {
        const payload = PAYLOAD.subarray(0, size);
        const right = scene.numbers(scene.flow);
        const numbers = { seq: (right.seq + PLACES[seq]) >>> 0, ack: (right.ack + PLACES[ack]) >>> 0 };
        scene.send(scene.flow, FLAGS[flags], OPTIONS[option]!(scene, payload), payload, numbers);
      },
    });
  for (const option of Object.keys(OPTIONS)) {
    for (const flags of ['ACK', 'SYN', 'SYN+ACK', 'RST', 'RST+ACK', 'FIN+ACK'] as const) packet(flags, option, 'exact', 'exact', 0);
    packet('ACK', option, 'exact', 'exact', 10);
  }
  const places: readonly (readonly [Place, Place])[] = [
    ['old', 'exact'],
    ['next', 'exact'],
    ['ahead', 'exact'],
    ['edge', 'exact'],
    ['far', 'exact'],
    ['exact', 'old'],
    ['exact', 'next'],
    ['exact', 'far'],
  ];
  for (const [seq, ack] of places) {
    for (const flags of Object.keys(FLAGS) as (keyof typeof FLAGS)[]) packet(flags, 'none', seq, ack, 0);
    packet('ACK', 'mapping', seq, ack, 100);
    packet('FIN+ACK', 'none', seq, ack, 100);
  }
  for (const flags of ['SYN+RST', 'SYN+FIN', 'none', 'all'] as const) packet(flags, 'none', 'exact', 'exact', 1000);
  out.push(...calls());
  return out;
}

/** What is no packet of this flow, and can happen between two. */
function calls(): HandMade[] {
  return [
    { name: 'a second passes', send: (scene) => void scene.advance(1_000_000) },
    { name: 'the application writes', send: (scene) => application(scene, (now) => scene.connection.write(new Uint8Array(500), now)) },
    { name: 'the application reads', send: (scene) => application(scene, (now) => scene.connection.read(1 << 20, now)) },
    { name: 'the application shuts down', send: (scene) => application(scene, (now) => scene.connection.shutdown(now)) },
    { name: 'the application aborts', send: (scene) => application(scene, (now) => scene.connection.abort(now)) },
    ...[4, 16].map((length) => ({
      name: `the application announces an address of ${length} octets with a port`,
      send: (scene: Scene) => application(scene, (now) => scene.connection.announce(20, new Uint8Array(length).fill(7), 8080, now)),
    })),
    { name: 'the application asks for backup', send: (scene) => subflow(scene, (one, now) => scene.connection.setBackup(one, true, now)) },
    { name: 'the application drops the subflow', send: (scene) => subflow(scene, (one, now) => scene.connection.dropSubflow(one, now)) },
    { name: 'the application withdraws addresses', send: (scene) => application(scene, (now) => scene.connection.withdraw([0, 20], now)) },
    {
      name: 'a SYN from elsewhere with a join',
      send: (scene) => {
        const flow = newPassiveFlow(scene);
        scene.send(flow, FLAGS.SYN, [scene.joinSyn(flow)], new Uint8Array(0), { ack: 0 });
        // The state is that of the flow before.
        scene.flows.pop();
      },
    },
  ];
}

function application(scene: Scene, call: (now: number) => unknown): void {
  if (scene.hasConnection) call(scene.now);
  scene.drain();
}

function subflow(scene: Scene, call: (one: Subflow, now: number) => void): void {
  application(scene, (now) => {
    const one = scene.connection.subflows.at(-1);
    if (one !== undefined) call(one, now);
  });
}
