/**
 * Names that the page offers, without the engine behind them: it comes with the worker. A test compares them with the engine's own.
 */
export const MIDDLEBOX_NAMES: Readonly<Record<string, string>> = {
  'strip-syn': 'replaces Multipath TCP options of SYNs by NOPs',
  'remove-syn': 'takes Multipath TCP options out of SYNs, the header gets shorter',
  'strip-synack': 'replaces Multipath TCP options of SYN+ACKs by NOPs',
  'strip-data': 'replaces Multipath TCP options after the handshake, towards the server',
  'strip-data-back': 'replaces Multipath TCP options after the handshake, towards the client',
  'strip-all': 'replaces every Multipath TCP option by NOPs',
  'strip-join': 'replaces MP_JOIN only',
  'strip-add-addr': 'replaces ADD_ADDR only',
  'drop-syn': 'drops SYNs with options it does not know',
  'drop-data': 'drops segments after the handshake that carry options it does not know',
  'clear-syn': 'overwrites the content of unknown options in SYNs with zeros',
  'rewrite-key': "changes the sender's key in MP_CAPABLE",
  'swap-options': 'changes the order of options',
  'reflect-options': "sends the SYN's options back, and hides them from the server",
  'strip-timestamps': 'takes the timestamp option out',
  'shift-timestamps': 'shifts timestamps',
  'strip-sack': 'takes SACK-permitted out of SYNs',
  'strip-window-scale': 'takes window scaling out of SYNs',
  'clamp-mss': 'lowers the MSS option',
  'clamp-mss-back': "lowers the server's MSS option",
  'clamp-window': 'lowers the advertised window',
  'clear-ecn-setup': 'clears the flags by which TCP negotiates ECN',
  'rewrite-dscp': 'sets the DSCP to zero',
  'rewrite-ecn': 'takes the ECN mark away',
  'mark-ecn': 'marks every packet with congestion experienced',
  'rewrite-ttl': 'sets the TTL anew',
  'rewrite-ip-id': 'numbers IPv4 packets anew',
  'clear-df': "clears don't fragment",
  nat: 'translates addresses and ports',
  'rewrite-sequence': "shifts the client's sequence numbers",
  'split-all': 'splits segments, options on every piece',
  'split-first': 'splits segments, options on the first piece',
  coalesce: 'joins segments that follow each other',
  'drop-holes': 'drops segments that leave a hole',
  'rewrite-payload': 'changes a byte of the payload, its length kept',
  'insert-payload': 'inserts bytes into the payload',
  'remove-payload': 'removes bytes of the payload',
  'reset-syn': 'resets connections whose SYN carries Multipath TCP',
  'reset-data': 'resets connections whose data carries Multipath TCP',
  'proactive-ack': 'acknowledges data for the server',
  proxy: 'ends the connection and opens one of its own',
};
export const SCHEDULER_NAMES: readonly string[] = ['lowest-rtt', 'round-robin', 'redundant', 'blest', 'ecf', 'handover', 'interactive'];
export const SERVICE_NAMES = ['none', 'handover', 'interactive', 'aggregate'] as const;
export const CONTROLLER_NAMES: readonly string[] = ['cubic', 'newreno', 'bbr'];
export const COUPLED_NAMES: readonly string[] = ['lia', 'olia', 'balia', 'wvegas'];

/** Microseconds of a throughput column, and between snapshots. */
export const BIN = 100_000;
/** Longest run, microseconds. */
export const LONGEST = 600e6;
