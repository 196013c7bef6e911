/** Boxes of the catalogue as the kernel's own tools build them: nft rules, iptables' TCPOPTSTRIP, a BPF program in tc. */
import { command } from '@subflow/link';
import type { Namespace } from '@subflow/link';
import { FLAG, IPV4, OPTION, PROTOCOL, TCP } from '@subflow/wire';

/** `userspace`: the emulator's box on a TUN link. */
export type BoxKind = 'userspace' | 'nft' | 'iptables' | 'tc-bpf';

/** Names of a router's devices towards both ends. */
export interface RouterDevices {
  toServer: string;
  toClient: string;
}

/** Builds the box in a router; returns what takes it away. */
type Build = (router: Namespace, devices: RouterDevices) => () => void;

const TABLE = 'subflow_box';
const SYN = 'tcp flags & (syn|ack) == syn';
const SYN_ACK = 'tcp flags & (syn|ack) == (syn|ack)';
const LATER = 'tcp flags & syn == 0';

/** Rules by name; `{s}` and `{c}` are the devices towards server and client. */
const NFT: Readonly<Record<string, readonly string[]>> = {
  'strip-syn': [`oifname {s} ${SYN} reset tcp option mptcp`],
  'strip-synack': [`oifname {c} ${SYN_ACK} reset tcp option mptcp`],
  'strip-data': [`oifname {s} ${LATER} reset tcp option mptcp`],
  'strip-data-back': [`oifname {c} ${LATER} reset tcp option mptcp`],
  'strip-all': ['reset tcp option mptcp'],
  'strip-join': ['oifname {s} tcp option mptcp subtype 1 reset tcp option mptcp'],
  'drop-syn': [`${SYN} tcp option mptcp exists drop`],
  'drop-data': [`${LATER} tcp option mptcp exists drop`],
  'strip-timestamps': ['oifname {s} reset tcp option timestamp'],
  'strip-sack': ['oifname {s} reset tcp option sack-perm'],
  'strip-window-scale': ['oifname {s} reset tcp option window'],
  'clamp-mss': ['oifname {s} tcp flags & syn == syn tcp option maxseg size set 536'],
  'clamp-mss-back': ['oifname {c} tcp flags & syn == syn tcp option maxseg size set 536'],
  'clamp-window': ['oifname {s} tcp window > 1000 tcp window set 1000'],
  'rewrite-dscp': ['oifname {s} meta l4proto tcp ip dscp set cs0'],
  'rewrite-ecn': ['oifname {s} meta l4proto tcp ip ecn set not-ect'],
  'mark-ecn': ['oifname {s} meta l4proto tcp ip ecn set ce'],
  'rewrite-ttl': ['oifname {s} meta l4proto tcp ip ttl set 64'],
  'clear-df': ['oifname {s} meta l4proto tcp ip frag-off set 0'],
  'reset-syn': [`oifname {s} ${SYN} tcp option mptcp exists reject with tcp reset`],
};

/** How a box can be built besides in user space. */
export function realisationsOf(name: string): Partial<Record<Exclude<BoxKind, 'userspace'>, Build>> {
  const rules = NFT[name];
  return {
    ...(rules === undefined ? {} : { nft: nftRules(rules) }),
    ...(name === 'nat' ? { nft: masquerade } : {}),
    ...(name === 'strip-all' ? { iptables: tcpOptStrip } : {}),
    ...(name === 'drop-syn' ? { 'tc-bpf': dropSynByBpf } : {}),
  };
}

function nftRules(rules: readonly string[]): Build {
  return (router, { toServer, toClient }) => {
    const lines = rules.map((rule) => rule.replaceAll('{s}', `"${toServer}"`).replaceAll('{c}', `"${toClient}"`));
    return nftTable(router, `chain forward { type filter hook forward priority 0; policy accept;\n${lines.join('\n')}\n}`);
  };
}

const masquerade: Build = (router, { toServer }) =>
  nftTable(router, `chain postrouting { type nat hook postrouting priority 100; policy accept;\noifname "${toServer}" masquerade random\n}`);

function nftTable(router: Namespace, body: string): () => void {
  command('ip', ['netns', 'exec', router.name, 'nft', '-f', '-'], `table ip ${TABLE} {\n${body}\n}\n`);
  return () => router.run('nft', 'delete', 'table', 'ip', TABLE);
}

const tcpOptStrip: Build = (router) => {
  const rule = ['FORWARD', '-p', 'tcp', '-j', 'TCPOPTSTRIP', '--strip-options', String(OPTION.mptcp)];
  router.run('iptables', '-t', 'mangle', '-A', ...rule);
  return () => router.run('iptables', '-t', 'mangle', '-D', ...rule);
};

/** Options that the program looks at before it gives up: it may not loop. */
const MOST_OPTIONS = 14;
const TC_SHOT = 2;
const TC_PASS = 0xffff_ffff;

const dropSynByBpf: Build = (router, { toServer }) => {
  router.run('tc', 'qdisc', 'add', 'dev', toServer, 'clsact');
  const program = dropSynProgram();
  const text = `${program.length},${program.map((one) => one.join(' ')).join(',')}`;
  router.run('tc', 'filter', 'add', 'dev', toServer, 'egress', 'bpf', 'direct-action', 'bytecode', text);
  return () => router.run('tc', 'qdisc', 'del', 'dev', toServer, 'clsact');
};

type Instruction = [code: number, jt: number, jf: number, k: number];

/** Classic BPF, from the IP header on (TUN has no link layer): SYNs with option 30 are dropped. */
function dropSynProgram(): Instruction[] {
  const body: Instruction[] = [];
  const PASS = -1;
  const DROP = -2;
  /** Jumps to the ends are filled in below. */
  const jump = (code: number, k: number, yes: number, no: number): Instruction => [code, yes, no, k];
  const JEQ = 0x15;
  const JSET = 0x45;
  body.push([0x30, 0, 0, IPV4.protocol], jump(JEQ, PROTOCOL.tcp, 0, PASS));
  // X: length of the IP header; only SYN without ACK goes on.
  body.push([0xb1, 0, 0, 0], [0x50, 0, 0, TCP.flags], jump(JSET, FLAG.syn, 0, PASS), jump(JSET, FLAG.ack, PASS, 0));
  // M[1]: end of the options; X and M[0]: where the next one is.
  body.push([0x50, 0, 0, TCP.dataOffset], [0x74, 0, 0, 4], [0x64, 0, 0, 2], [0x0c, 0, 0, 0], [0x02, 0, 0, 1]);
  body.push([0x87, 0, 0, 0], [0x04, 0, 0, TCP.options], [0x07, 0, 0, 0], [0x02, 0, 0, 0]);
  for (let i = 0; i < MOST_OPTIONS; i++) {
    // At the end?
    body.push([0x61, 0, 0, 1], [0x60, 0, 0, 0], jump(0x3d, 0, PASS, 0));
    body.push([0x61, 0, 0, 0], [0x50, 0, 0, 0], jump(JEQ, OPTION.mptcp, DROP, 0), jump(JEQ, OPTION.end, PASS, 0));
    // NOP is one octet long, others say it.
    body.push(jump(JEQ, OPTION.nop, 0, 2), [0x00, 0, 0, 1], [0x05, 0, 0, 1], [0x50, 0, 0, 1]);
    body.push([0x0c, 0, 0, 0], [0x02, 0, 0, 0]);
  }
  return withEnds(body, PASS, DROP);
}

/** Fills in the jumps to the two ends; conditional jumps reach 255 instructions, which is what limits {@link MOST_OPTIONS}. */
function withEnds(body: readonly Instruction[], pass: number, drop: number): Instruction[] {
  const end = body.length;
  return [
    ...body.map(([code, yes, no, k], i): Instruction => {
      const target = (to: number): number => (to === pass ? end - i - 1 : to === drop ? end - i : to);
      return [code, target(yes), target(no), k];
    }),
    [0x06, 0, 0, TC_PASS],
    [0x06, 0, 0, TC_SHOT],
  ];
}
