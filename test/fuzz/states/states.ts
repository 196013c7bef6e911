/** The states a host can be in, and how to bring it there; every one in both versions and both families where it differs. */
import type { Packet } from '@subflow/wire';
import type { Instrumented } from '../instrument.ts';
import { newPassiveFlow, Scene } from './scene.ts';
import type { Choices, Flow } from './scene.ts';

/** Who has opened the connection, and how it works. */
export type Role = 'client' | 'server';
export type Kind = 'plain' | 'mptcp' | 'fallback';

export interface State {
  name: string;
  choices: Choices;
  /** RFC 9293's name of the state the flow is in, as the stack numbers it; null: there is no flow yet. */
  tcp: string | null;
  enter(scene: Scene): void;
}

const WRITTEN = 3000;
const OPTIONS = { mss: { kind: 'mss', value: 1400 }, sack: { kind: 'sack-permitted' } } as const;

/** Makes the scene; throws when the state is not reached. */
export function reach(loaded: Instrumented, state: State): Scene {
  const scene = new Scene(loaded, state.choices);
  state.enter(scene);
  if (state.tcp === null) return scene;
  const names = loaded.stack.STATE as Readonly<Record<string, number>>;
  const { tcb } = scene.flow;
  // In TIME-WAIT a stack may keep less than a control block: its tuple is still there then.
  const waits = state.tcp === 'timeWait' && tcb?.state === names['closed'] && scene.host.sizes.subflows === scene.flows.length;
  if (tcb?.state !== names[state.tcp] && !waits) throw new Error(`${state.name} not reached: ${tcb === null ? 'no flow' : `state ${tcb.state}`}`);
  return scene;
}

export function allStates(): State[] {
  const out: State[] = [];
  for (const v6 of [false, true]) {
    for (const version of [1, 0] as const) {
      const label = `version ${version}, ${v6 ? 'IPv6 with timestamps' : 'IPv4'}`;
      const add: Add = (name, tcp, enter, choices = {}) => {
        // The version makes no difference to plain TCP.
        if (version === 0 && name.endsWith('plain')) return;
        out.push({ name: `${name} (${label})`, tcp, enter, choices: { version, v6, timestamps: v6, ...choices } });
      };
      add('LISTEN', null, (scene) => void newPassiveFlow(scene));
      add('LISTEN with cookies', null, (scene) => void newPassiveFlow(scene), { cookies: true });
      openings(add);
      joins(add);
      dataLevel(add);
      for (const kind of ['plain', 'mptcp', 'fallback'] as const) for (const role of ['server', 'client'] as const) closings(add, role, kind);
    }
  }
  return out;
}

type Add = (name: string, tcp: string | null, enter: (scene: Scene) => void, choices?: Partial<Choices>) => void;

function openings(add: Add): void {
  for (const kind of ['plain', 'mptcp'] as const) {
    add(`SYN-SENT, ${kind}`, 'synSent', (scene) => void connect(scene, kind));
    add(`SYN-RECEIVED, ${kind}`, 'synReceived', (scene) => void syn(scene, kind));
    add(`SYN-RECEIVED by simultaneous open, ${kind}`, 'synReceived', (scene) => {
      const flow = connect(scene, kind);
      scene.send(flow, scene.loaded.wire.FLAG.syn, [OPTIONS.mss]);
    });
    for (const role of ['server', 'client'] as const) {
      add(`ESTABLISHED, nothing confirmed, ${role}, ${kind}`, 'established', (scene) => void opened(scene, role, kind));
      add(`ESTABLISHED, ${role}, ${kind}`, 'established', (scene) => void talking(scene, role, kind));
    }
  }
  for (const role of ['server', 'client'] as const) {
    add(`ESTABLISHED, ${role}, fallback`, 'established', (scene) => void talking(scene, role, 'fallback'));
    add(`ESTABLISHED with data in flight and a hole, ${role}`, 'established', (scene) => {
      const flow = talking(scene, role, 'mptcp');
      write(scene);
      hole(scene, flow);
    });
  }
}

function joins(add: Add): void {
  for (const role of ['server', 'client'] as const) {
    add(`our join: SYN sent, ${role}`, 'synSent', (scene) => void ourJoin(scene, role));
    add(`our join: before the fourth ACK, ${role}`, 'established', (scene) => void ourJoinAnswered(scene, role));
    add(`our join: established, ${role}`, 'established', (scene) => {
      const flow = ourJoinAnswered(scene, role);
      scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.dss(new Uint8Array(0))]);
    });
    add(`their join: SYN received, ${role}`, 'synReceived', (scene) => void theirJoin(scene, role));
    add(`their join: established, ${role}`, 'established', (scene) => {
      const flow = theirJoin(scene, role);
      scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.joinAck(flow)]);
    });
  }
}

function dataLevel(add: Add): void {
  const role = 'server';
  add('DATA_FIN sent', 'established', (scene) => {
    talking(scene, role, 'mptcp');
    shutdown(scene);
  });
  add('DATA_FIN received', 'established', (scene) => {
    const flow = talking(scene, role, 'mptcp');
    scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.dss(new Uint8Array(0), { fin: true })]);
  });
  add('both DATA_FINs sent, octets missing', 'established', (scene) => {
    const flow = talking(scene, role, 'mptcp');
    write(scene);
    shutdown(scene);
    scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.dss(new Uint8Array(0), { fin: true, at: scene.dataNext + 500, ack: 1 })]);
  });
  add(
    'waiting for the answer to a fast close',
    'established',
    (scene) => {
      talking(scene, role, 'mptcp');
      scene.connection.abort(scene.now);
      scene.drain();
    },
    { fastclose: 'ack' },
  );
  add(
    'MP_FAIL sent',
    'established',
    (scene) => {
      const flow = talking(scene, role, 'mptcp');
      const payload = new Uint8Array(20);
      scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.dss(payload, { checksum: 1 })], payload);
      scene.dataNext += payload.length;
    },
    { checksum: true },
  );
}

/** The states from the first FIN on (RFC 9293 §3.6). */
function closings(add: Add, role: Role, kind: Kind): void {
  const label = `${role}, ${kind}`;
  const fin = (scene: Scene, flow: Flow, ack?: number): Packet[] => {
    const { ack: flag, fin: end } = scene.loaded.wire.FLAG;
    return scene.send(flow, flag | end, [], new Uint8Array(0), ack === undefined ? {} : { ack });
  };
  const finWait1 = (scene: Scene): Flow => {
    const flow = talking(scene, role, kind);
    if (kind === 'mptcp') {
      shutdown(scene);
      // Subflows are closed when both directions are finished (RFC 8684 §3.3.3).
      const acked = scene.connection.dataNxt + (kind === 'mptcp' ? 1 : 0);
      scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.dss(new Uint8Array(0), { fin: true, ack: acked })]);
    } else {
      shutdown(scene);
    }
    return flow;
  };
  const acknowledged = (scene: Scene, flow: Flow): void => void scene.send(flow, scene.loaded.wire.FLAG.ack);
  add(`FIN-WAIT-1, ${label}`, 'finWait1', (scene) => void finWait1(scene));
  add(`FIN-WAIT-2, ${label}`, 'finWait2', (scene) => acknowledged(scene, finWait1(scene)));
  add(`CLOSING, ${label}`, 'closing', (scene) => {
    const flow = finWait1(scene);
    fin(scene, flow, (flow.tcb!.iss + flow.tcb!.sndUna) >>> 0);
  });
  add(`TIME-WAIT, ${label}`, 'timeWait', (scene) => void fin(scene, finWait1(scene)));
  add(`CLOSE-WAIT, ${label}`, 'closeWait', (scene) => void fin(scene, talking(scene, role, kind)));
  if (kind === 'mptcp') return;
  add(`LAST-ACK, ${label}`, 'lastAck', (scene) => {
    fin(scene, talking(scene, role, kind));
    shutdown(scene);
  });
}

// Steps

function connect(scene: Scene, kind: Kind): Flow {
  const connection = scene.host.connect({ remote: scene.remote, port: 443, multipath: kind !== 'plain' }, scene.now);
  const [first] = scene.drain();
  const flow = scene.addFlow(443, first!.tcp!.sourcePort);
  flow.tcb = connection.subflows[0]!.tcb;
  scene.find(flow);
  return flow;
}

function syn(scene: Scene, kind: Kind): Flow {
  const flow = newPassiveFlow(scene);
  const key = scene.version === 0 ? { senderKey: scene.peerKey } : {};
  scene.send(flow, scene.loaded.wire.FLAG.syn, [OPTIONS.mss, OPTIONS.sack, ...(kind === 'plain' ? [] : [scene.capable(key)])], new Uint8Array(0), { ack: 0 });
  return flow;
}

/** The handshake is over as far as TCP is concerned. */
function opened(scene: Scene, role: Role, kind: Kind): Flow {
  const { FLAG } = scene.loaded.wire;
  if (role === 'server') {
    const flow = syn(scene, kind);
    scene.send(flow, FLAG.ack, kind === 'plain' ? [] : [scene.capable({ senderKey: scene.peerKey, receiverKey: scene.hostKey })]);
    return flow;
  }
  const flow = connect(scene, kind);
  scene.send(flow, FLAG.syn | FLAG.ack, [OPTIONS.mss, OPTIONS.sack, ...(kind === 'plain' ? [] : [scene.capable({ senderKey: scene.peerKey })])]);
  return flow;
}

/** Data has come from the peer: Multipath TCP is confirmed, or given up because the data has no mapping. */
function talking(scene: Scene, role: Role, kind: Kind): Flow {
  const flow = opened(scene, role, kind);
  scene.data(flow, 10, kind !== 'mptcp');
  return flow;
}

function write(scene: Scene): void {
  scene.connection.write(new Uint8Array(WRITTEN), scene.now);
  scene.drain();
}

function shutdown(scene: Scene): void {
  scene.connection.shutdown(scene.now);
  scene.drain();
}

/** A segment ahead of order. */
function hole(scene: Scene, flow: Flow): void {
  const payload = new Uint8Array(100);
  const { seq } = scene.numbers(flow);
  scene.send(flow, scene.loaded.wire.FLAG.ack, [scene.dss(payload, { at: scene.dataNext + 50 })], payload, { seq: (seq + 50) >>> 0 });
}

function ourJoin(scene: Scene, role: Role): Flow {
  const first = talking(scene, role, 'mptcp');
  const answers = scene.send(first, scene.loaded.wire.FLAG.ack, [scene.addAddress(9, scene.further), scene.dss(new Uint8Array(0))]);
  const packet = answers.find((one) => one.tcp!.flags === scene.loaded.wire.FLAG.syn);
  if (packet === undefined) throw new Error('the host does not join the announced address');
  const flow = scene.addFlow(packet.tcp!.destinationPort, packet.tcp!.sourcePort, scene.further);
  for (const option of packet.tcp!.options) if (option.kind === 'mptcp' && option.option.subtype === 'join-syn') flow.hostNonce = option.option.nonce;
  scene.find(flow);
  return flow;
}

function ourJoinAnswered(scene: Scene, role: Role): Flow {
  const flow = ourJoin(scene, role);
  const { FLAG } = scene.loaded.wire;
  scene.send(flow, FLAG.syn | FLAG.ack, [OPTIONS.mss, scene.joinSynAck(flow)]);
  return flow;
}

function theirJoin(scene: Scene, role: Role): Flow {
  const first = talking(scene, role, 'mptcp');
  const flow = scene.addFlow(2000, first.hostPort);
  const [answer] = scene.send(flow, scene.loaded.wire.FLAG.syn, [OPTIONS.mss, scene.joinSyn(flow)], new Uint8Array(0), { ack: 0 });
  for (const option of answer?.tcp?.options ?? []) if (option.kind === 'mptcp' && option.option.subtype === 'join-synack') flow.hostNonce = option.option.nonce;
  return flow;
}
