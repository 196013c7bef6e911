/** The playground's engine in a worker: the emulated clock follows the real one at some speed, or step by step. */
import { isMalformed, parsePacketValue, pcapngInterface, pcapngPacket, pcapngSection } from '@subflow/wire';
import { checkSetup, PlayRun } from '@subflow/web/play';
import type { PlayPacket } from '@subflow/web/play';
import type { FromWorker, PacketRow, ToWorker } from './messages.ts';

const TURN = 16;
/** Of each turn the engine may take so much; the rest is for messages. */
const WORK = 13;
const ROWS = 120;
/** LINKTYPE_RAW: packets begin with their IP header. */
const RAW_IP = 101;

let run: PlayRun | null = null;
let speed = 0;
let behind = false;
let lastTurn = 0;
let told = 0;
/** Progress is told so often, milliseconds. */
const TELL = 33;
let lastTold = 0;

const scope = self as unknown as { postMessage(message: FromWorker): void; onmessage: ((event: MessageEvent<ToWorker>) => void) | null };

function turn(): void {
  const now = performance.now();
  const passed = Math.min(100, now - lastTurn);
  lastTurn = now;
  if (run !== null && speed > 0 && !run.ended) {
    const target = run.agenda.now + passed * 1000 * speed;
    const piece = Math.max(200, (target - run.agenda.now) / 16);
    while (run.agenda.now < target && !run.ended && performance.now() - now < WORK) run.runTo(Math.min(target, run.agenda.now + piece));
    behind = !run.ended && run.agenda.now < target - 50_000;
    if (now - lastTold > TELL || run.ended) tell();
  }
}

function tell(): void {
  if (run === null) return;
  lastTold = performance.now();
  const fresh = run.packets.slice(-ROWS).filter((one) => one.number > told);
  told = run.packets.at(-1)?.number ?? told;
  scope.postMessage({ type: 'progress', progress: run.progress(), rows: fresh.map(rowOf), behind });
}

function rowOf(packet: PlayPacket): PacketRow {
  const parsed = parsePacketValue(packet.bytes);
  let text = 'malformed';
  if (!isMalformed(parsed)) {
    const { tcp } = parsed;
    if (tcp === null) text = 'ICMP';
    else {
      const flags = ['FIN', 'SYN', 'RST', '', 'ACK'].filter((name, bit) => name !== '' && (tcp.flags & (1 << bit)) !== 0).join(' ');
      const multipath = tcp.options.flatMap((one) => (one.kind === 'mptcp' ? [one.option.subtype] : []));
      text = `${flags}${multipath.length === 0 ? '' : ` · ${multipath.join(', ')}`}`;
    }
  }
  return { number: packet.number, at: packet.at, path: packet.path, forward: packet.forward, length: packet.bytes.length, text };
}

function capture(from: PlayRun): Uint8Array {
  const parts = [pcapngSection('Subflow playground'), ...from.setup.paths.map((path) => pcapngInterface(RAW_IP, path.name))];
  for (const { at, path, bytes } of from.packets)
    parts.push(
      pcapngPacket({ interface: path, seconds: Math.floor(at / 1e6), nanoseconds: Math.round((at % 1e6) * 1000), bytes, originalLength: bytes.length }),
    );
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

scope.onmessage = ({ data }) => {
  try {
    switch (data.do) {
      case 'start':
        told = 0;
        run = new PlayRun(checkSetup(data.setup));
        tell();
        return;
      case 'speed':
        speed = data.speed;
        lastTurn = performance.now();
        return;
      case 'step':
        run?.step();
        tell();
        return;
      case 'act':
        if (run !== null) scope.postMessage({ type: 'acted', action: run.act(data.action) });
        tell();
        return;
      case 'describe': {
        const words = run?.describe(data.number) ?? null;
        scope.postMessage({ type: 'description', ...(words ?? { title: `packet ${data.number}`, lines: ['is no longer kept'] }) });
        return;
      }
      case 'pcapng':
        if (run !== null) scope.postMessage({ type: 'pcapng', bytes: capture(run) });
    }
  } catch (error) {
    scope.postMessage({ type: 'error', message: (error as Error).message });
  }
};

lastTurn = performance.now();
setInterval(turn, TURN);
