/** Ready-made lessons: a setup, what to look at, what to try. */
import { DEFAULT_SETUP } from './setup.ts';
import type { PlayPath, PlaySetup } from './setup.ts';

export interface Lesson {
  id: string;
  title: string;
  text: string;
  /** What to watch, in the order in which it happens. */
  watch: readonly string[];
  setup: PlaySetup;
}

const path = (name: string, rate: number, delay: number, more: Partial<PlayPath> = {}): PlayPath => ({
  name,
  family: 4,
  rate,
  delay,
  loss: 0,
  backup: false,
  up: true,
  box: null,
  ...more,
});
const setup = (more: Partial<PlaySetup>): PlaySetup => ({ ...DEFAULT_SETUP, ...more });
const S = 1e6;

export const LESSONS: readonly Lesson[] = [
  {
    id: 'handshake',
    title: 'The handshake',
    text: 'One path. The SYN offers Multipath TCP with MP_CAPABLE; the SYN+ACK answers with the server’s key; the third ACK echoes both keys. From them both ends derive a token, the name of the connection, and the first data sequence number.',
    watch: [
      'Step through the first three packets: MP_CAPABLE without keys, with one, with two.',
      'The first data carries a DSS: which octets of the stream these are.',
    ],
    setup: setup({ paths: [path('wifi', 20, 20)], amount: 0.1 }),
  },
  {
    id: 'join',
    title: 'A join',
    text: 'A second path opens a subflow with MP_JOIN: the token says which connection, random numbers and HMACs prove that it is the same two ends.',
    watch: [
      'MP_JOIN in a SYN on lte, after the first data.',
      'Four packets: SYN, SYN+ACK, ACK with the HMAC, and an ACK of that.',
      'Then both paths carry data.',
    ],
    setup: setup({ amount: 2 }),
  },
  {
    id: 'handover',
    title: 'On the way out of the house',
    text: 'Wi-Fi fades and is gone at two seconds; at five it comes back. The connection does not break: what was under way on Wi-Fi is sent again on LTE, under its old data sequence numbers.',
    watch: ['Wi-Fi’s band ends, LTE’s goes on.', 'Reinjections: octets that were sent on Wi-Fi and did not arrive.', 'Wi-Fi comes back and joins again.'],
    setup: setup({
      amount: 12,
      paths: [path('wifi', 20, 10), path('lte', 10, 35)],
      actions: [
        { at: 1.5 * S, path: 0, loss: 3 },
        { at: 2 * S, path: 0, up: false },
        { at: 5 * S, path: 0, up: true, loss: 0 },
      ],
    }),
  },
  {
    id: 'buffer',
    title: 'A full receive buffer',
    text: 'One fast path, one slow one, and a small receive buffer: what came early on the fast path waits for what is late on the slow one, until nothing more fits. Two paths are slower than one alone.',
    watch: [
      'The out-of-order queue reaches the buffer.',
      'Both subflows stand still although there is room on the paths.',
      'Try the scheduler blest, or a buffer of 4096 kB.',
    ],
    setup: setup({ amount: 6, buffer: 96, scheduler: 'round-robin', paths: [path('wifi', 20, 10), path('lte', 2, 150)] }),
  },
  {
    id: 'coupled',
    title: 'Coupled control at a shared bottleneck',
    text: 'Both paths go through one bottleneck of 10 Mbit/s. With LIA the windows are coupled: together the subflows take what one connection would.',
    watch: ['The congestion windows move together.', 'Choose “none” for the coupled controller and run again: each subflow for itself.'],
    setup: setup({ amount: 8, coupled: 'lia', controller: 'newreno', shared: 10, paths: [path('wifi', 50, 20), path('lte', 50, 25)] }),
  },
  {
    id: 'middlebox',
    title: 'A middlebox that strips options',
    text: 'A box on the path replaces Multipath TCP options of SYN+ACKs by NOPs. The client sees an answer without the option and goes on with plain TCP: nobody notices, and there is no second path.',
    watch: ['The SYN has MP_CAPABLE, the SYN+ACK has not any more.', '“fallback” in the events.', 'Take the box away and run again.'],
    setup: setup({ amount: 4, paths: [path('wifi', 20, 10, { box: 'strip-synack' }), path('lte', 10, 30)] }),
  },
  ...(
    [
      [
        'strip-syn',
        'Probe 1: does the SYN arrive with its option?',
        'A conformance conversation begins like this: an MP_CAPABLE SYN. Here it is stripped on the way, the server never hears of Multipath TCP.',
      ],
      [
        'strip-synack',
        'Probe 2: does the answer come back with its key?',
        'The server has answered with MP_CAPABLE; on the way back the option is lost. The third ACK has none, and the server falls back too.',
      ],
      [
        'strip-data',
        'Probe 3: do options survive on data?',
        'The handshake is left alone, data is not: the first data comes without a mapping, and both ends fall back.',
      ],
      ['strip-join', 'Probe 4: does a join come through?', 'MP_CAPABLE passes, MP_JOIN does not: the connection is Multipath TCP with one subflow for ever.'],
      [
        'strip-add-addr',
        'Probe 5: are announced addresses heard?',
        'ADD_ADDR is stripped: an address that only the server knows is never learnt. (The second path here is IPv6.)',
      ],
      [
        'rewrite-payload',
        'Probe 6: does anybody change octets?',
        'A box rewrites payload. With checksums on, the receiver notices: MP_FAIL, and the connection goes on without mappings.',
      ],
    ] as const
  ).map(([box, title, text], i): Lesson => ({
    id: `probe-${i + 1}`,
    title,
    text,
    watch: ['Look at the same option where it enters and where it leaves the path.', '“subflow probe” asks this of real paths, and finds the hop.'],
    setup: setup({
      amount: 1,
      checksum: box === 'rewrite-payload',
      paths: [path('wifi', 20, 10, { box }), path('lte', 10, 30, box === 'strip-add-addr' ? { family: 6 } : {})],
    }),
  })),
];
