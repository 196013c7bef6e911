/** The catalogue of what boxes do to Multipath TCP, and what each behaviour means for those who use the path. */

export type BehaviourId = keyof typeof BEHAVIOURS;

export interface Behaviour {
  /** What it is, as a clause: "removes the Multipath TCP option from SYNs". */
  does: string;
  /** What follows for users. */
  means: string;
  /** Whether Multipath TCP still works. */
  severity: 'blocks' | 'harms' | 'harmless';
}

const behaviour = (severity: Behaviour['severity'], does: string, means: string): Behaviour => ({ does, means, severity });

export const BEHAVIOURS = {
  'strip-syn': behaviour(
    'blocks',
    'removes the Multipath TCP option from SYNs',
    'Connections fall back to TCP: the server never learns that the client speaks Multipath TCP.',
  ),
  'strip-synack': behaviour(
    'blocks',
    'removes the Multipath TCP option from SYN+ACKs',
    'Connections fall back to TCP: the client believes that the server does not speak Multipath TCP.',
  ),
  'strip-data': behaviour(
    'blocks',
    'removes Multipath TCP options after the handshake',
    'Connections start with Multipath TCP and fall back to TCP with the first data (RFC 8684 §3.7).',
  ),
  'strip-join': behaviour('harms', 'removes MP_JOIN', 'Connections use Multipath TCP, but no second subflow comes up over this path.'),
  'strip-add-addr': behaviour('harms', 'removes ADD_ADDR', 'Further addresses of this end are never learnt; subflows start from the other end only.'),
  'rewrite-mptcp': behaviour('blocks', 'changes the content of Multipath TCP options', 'Keys or mappings do not fit: connections fall back, or are reset.'),
  'reorder-options': behaviour('harmless', 'changes the order of TCP options', 'Nothing: no receiver may depend on the order.'),
  'add-option': behaviour('harmless', 'adds TCP options', 'Room for Multipath TCP options gets less.'),
  'reflect-options': behaviour(
    'blocks',
    'sends the options of a SYN back',
    'The answer looks like Multipath TCP and is none: connections fall back to TCP, with version 0 they may break.',
  ),
  'drop-syn': behaviour('blocks', 'drops SYNs with the Multipath TCP option', 'Connecting takes seconds: only a SYN without the option gets through.'),
  'drop-data': behaviour(
    'blocks',
    'drops segments with Multipath TCP options after the handshake',
    'Connections come up and then hang: the worst case for users.',
  ),
  'reset-syn': behaviour(
    'blocks',
    'resets connections whose SYN carries Multipath TCP',
    'Connections are refused unless the client tries again without Multipath TCP.',
  ),
  'reset-data': behaviour('blocks', 'resets connections whose data carries Multipath TCP', 'Connections come up and are reset with the first data.'),
  proxy: behaviour('blocks', 'answers for the server: a transparent proxy', 'Multipath TCP ends at the proxy; the server sees TCP from the proxy.'),
  'proactive-ack': behaviour(
    'blocks',
    'acknowledges data for the server',
    'Acknowledgements come without DATA_ACK: connections fall back, and what the proxy loses is not sent again.',
  ),
  'strip-timestamps': behaviour(
    'harmless',
    'removes TCP timestamps',
    'RTT is measured less often; very fast long transfers lose protection against old segments (RFC 7323).',
  ),
  'rewrite-timestamps': behaviour('harmless', 'changes TCP timestamps', 'Nothing as long as echoes are translated back.'),
  'strip-sack': behaviour('harms', 'removes SACK-permitted', 'Loss is repaired one segment per round trip.'),
  'strip-window-scale': behaviour('harms', 'removes or changes window scaling', 'At most 64 KB are under way on each subflow.'),
  'clamp-mss': behaviour('harmless', 'changes the MSS option', 'Segments get smaller.'),
  'rewrite-window': behaviour(
    'harms',
    'changes the receive window',
    'The window of Multipath TCP belongs to the connection (RFC 8684 §3.3.4): throughput of all subflows suffers.',
  ),
  'clear-ecn-setup': behaviour('harmless', 'clears the flags that negotiate ECN', 'No ECN: queues tell of congestion by loss only.'),
  'rewrite-flags': behaviour('harms', 'changes other TCP flags', 'What the flags said is lost.'),
  'rewrite-dscp': behaviour('harmless', 'changes the DSCP', 'Priorities set by the sender are not honoured behind it.'),
  'rewrite-ecn': behaviour('harmless', 'clears the ECN field', 'ECN does not work on this path.'),
  'mark-ecn': behaviour('harms', 'marks packets with congestion experienced', 'If all are marked, senders with ECN slow down to the smallest window.'),
  'rewrite-ttl': behaviour('harmless', 'sets the TTL anew', 'Hops behind it do not show in a walk.'),
  'rewrite-ip-id': behaviour('harmless', 'numbers IPv4 packets anew', 'Nothing for whole packets (RFC 6864).'),
  'clear-df': behaviour('harms', "clears don't fragment", 'Path MTU discovery does not see the small links behind it; packets are fragmented.'),
  nat: behaviour('harmless', 'translates addresses or ports', 'The server cannot open subflows to the addresses behind it; the client must.'),
  'rewrite-sequence': behaviour(
    'harmless',
    'changes sequence numbers',
    'Nothing: mappings count from the initial sequence number for that reason (RFC 8684 §3.3).',
  ),
  'split-segments': behaviour(
    'harmless',
    'splits segments',
    'Nothing if the option is copied to all pieces or kept on the first: a mapping may cover several segments.',
  ),
  'coalesce-segments': behaviour('harms', 'joins segments', 'Of two mappings one is lost: data is sent again, or the connection falls back.'),
  'drop-holes': behaviour('harms', 'drops segments that leave a hole', 'Every loss costs all that was sent behind it.'),
  'rewrite-payload': behaviour(
    'harms',
    'changes the payload',
    'Without DSS checksums the application gets changed data; with them the connection falls back or the subflow is reset.',
  ),
  'resize-payload': behaviour('blocks', 'inserts or removes payload', 'Mappings no longer fit the bytes: connections fall back or break.'),
} as const satisfies Record<string, Behaviour>;
