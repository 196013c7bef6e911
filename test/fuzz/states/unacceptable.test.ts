/**
 * In every state, every combination of flags, place in the sequence space and acknowledgement that RFC 9293 §3.10.7 and
 * RFC 5961 do not accept: the segment may be answered and counted, and changes nothing else.
 */
import { describe, expect, it } from 'vitest';
import * as stack from '@subflow/stack';
import * as wire from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { isLucky } from '../../simulation/off-path.ts';
import { differences, protocolState } from '../../simulation/protocol-state.ts';
import type { Instrumented } from '../instrument.ts';
import type { Scene } from './scene.ts';
import { allStates, reach } from './states.ts';
import type { State } from './states.ts';

const loaded = { wire, stack } as unknown as Instrumented;
const { FLAG, DSS_FLAG } = wire;
const FLAGS = {
  ACK: FLAG.ack,
  'FIN+ACK': FLAG.fin | FLAG.ack,
  RST: FLAG.rst,
  'RST+ACK': FLAG.rst | FLAG.ack,
  SYN: FLAG.syn,
  'SYN+ACK': FLAG.syn | FLAG.ack,
  'SYN+RST': FLAG.syn | FLAG.rst,
  none: 0,
};
const STATES: Readonly<Record<string, number>> = stack.STATE;
const SIZES = [0, 1, 700];
const REPORTED = 3;

/** Octets beside RCV.NXT, and beside SND.UNA, where comparisons go wrong. */
function places(scene: Scene): { seq: number[]; ack: number[] } {
  const { tcb } = scene.flow;
  const window = tcb!.rcvEdge - tcb!.rcvNxt;
  const flight = tcb!.sndNxt - tcb!.sndUna;
  return {
    seq: [0, 1, -1, -2, -700, -701, window, window + 1, window + 2, -tcb!.rcvNxt, 2 ** 30, 2 ** 31 - 1, -(2 ** 31)],
    ack: [0, -1, flight, flight + 1, flight + 70_000, -(2 ** 30) - 1, -(2 ** 31), 2 ** 31 - 1],
  };
}

/** The options are such as would do something if the segment were accepted. */
function optionsOf(scene: Scene, i: number): TcpOption[] {
  const stamps: TcpOption = { kind: 'timestamps', value: 2 ** 30, echo: 1 };
  const { ack } = scene.numbers(scene.flow);
  const choices: TcpOption[][] = [
    [],
    [stamps],
    [{ kind: 'sack', blocks: [[(ack - 300) >>> 0, (ack - 100) >>> 0]] }],
    [scene.dss(new Uint8Array(10), { mapping: true })],
    [scene.mptcp({ subtype: 'dss', flags: DSS_FLAG.dataAck, dataAck: { high: 0, low: 5 }, dsn: null, ssn: 0, dataLength: 0, checksum: null })],
    [scene.mptcp({ subtype: 'prio', flags: 1, addressId: null })],
    [scene.mptcp({ subtype: 'remove-addr', flags: 0, addressIds: [0] })],
    [scene.mptcp({ subtype: 'fastclose', reserved: 0, receiverKey: scene.hostKey })],
  ];
  return choices[i % choices.length]!;
}

/** What the host has besides: how many of each, and in TIME-WAIT until when. */
function whole({ host }: Scene, state: State): string {
  const { connections, subflows, tokens } = host.sizes;
  return JSON.stringify({ connections, subflows, tokens, until: state.tcp === 'timeWait' ? host.pollTimeout() : 0 });
}

/** What changed, in words; the scene is made anew after each. */
function changes(state: State): string[] {
  let scene = reach(loaded, state);
  const problems = new Map<string, string>();
  const { seq, ack } = places(scene);
  let i = 0;
  for (const [name, flags] of Object.entries(FLAGS)) {
    for (const from of seq) {
      for (const acked of ack) {
        i++;
        const { tcb } = scene.flow;
        const payload = new Uint8Array(SIZES[i % SIZES.length]!);
        const options = optionsOf(scene, i);
        const forged = {
          seq: (tcb!.irs + tcb!.rcvNxt + from) >>> 0,
          ack: (tcb!.iss + tcb!.sndUna + acked) >>> 0,
          flags,
          window: i % 2 === 0 ? 0 : 65_535,
          options,
          payload,
        };
        if (isLucky(tcb!, forged, STATES[state.tcp!])) continue;
        const roots = [scene.connection, tcb!.user];
        // A restart is seen only when time has passed; all of this together is less than TIME-WAIT lasts.
        if (state.tcp === 'timeWait') scene.now += 1000;
        const before = protocolState(roots);
        const besides = whole(scene, state);
        scene.deliver(scene.flow, flags, options, payload, { seq: forged.seq, ack: forged.ack, window: forged.window });
        const changed = differences(before, protocolState(roots));
        if (whole(scene, state) !== besides) changed.push(`Host ${besides} → ${whole(scene, state)}`);
        scene.drain();
        if (changed.length === 0) continue;
        problems.set(
          `${name} ${changed.map((one) => one.split(' ')[0]).join()}`,
          `${name}, RCV.NXT + ${from}, SND.UNA + ${acked}, ${payload.length} bytes: ${changed.slice(0, 5).join(', ')}`,
        );
        scene = reach(loaded, state);
      }
    }
  }
  return [...problems.values()].slice(0, REPORTED);
}

describe('a segment that is not acceptable changes nothing', () => {
  for (const state of allStates()) {
    // TCP is the same under both versions and both families: one of the four is left out for the time it takes.
    if (state.tcp === null || (state.choices.v6 && state.choices.version === 0)) continue;
    it(`in ${state.name}`, () => expect(changes(state)).toEqual([]));
  }
});
