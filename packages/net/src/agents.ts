/** What http, https, http2, undici and ws need to use our sockets as clients. Servers: {@link serve}. */
import { Agent as NodeHttpAgent } from 'node:http';
import type { AgentOptions, ClientRequestArgs } from 'node:http';
import { Agent as NodeHttpsAgent } from 'node:https';
import type { AgentOptions as HttpsAgentOptions } from 'node:https';
import type { Socket as NodeSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect, TLSSocket } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { split, Socket } from './socket.ts';
import type { ConnectOptions, MultipathOptions } from './socket.ts';
import type { Multipath } from './multipath.ts';

type Connected = (error: Error | null, socket: Duplex) => void;

function open(options: object, multipath: MultipathOptions): Socket {
  const merged = { ...options, ...multipath } as ConnectOptions;
  const { timeout } = merged;
  const socket = new Socket(merged as ConstructorParameters<typeof Socket>[0]);
  if (timeout !== undefined && timeout > 0) socket.setTimeout(timeout);
  return socket.connect(merged);
}

/** `new http.Agent` whose connections are ours; for `http.request`, `ws` and everything that takes an agent. */
export class HttpAgent extends NodeHttpAgent {
  private readonly multipath: MultipathOptions;

  constructor(options: AgentOptions & MultipathOptions = {}) {
    super(options);
    this.multipath = multipathOnly(options);
  }

  override createConnection(options: ClientRequestArgs, _callback?: Connected): Duplex {
    return open(options, this.multipath);
  }
}

const httpsCreateConnection = (NodeHttpsAgent.prototype as unknown as { createConnection(this: NodeHttpsAgent, options: object, callback?: Connected): Duplex })
  .createConnection;

/** `new https.Agent` whose connections are ours; sessions are reused as in the original. */
export class HttpsAgent extends NodeHttpsAgent {
  private readonly multipath: MultipathOptions;

  constructor(options: HttpsAgentOptions & MultipathOptions = {}) {
    super(options);
    this.multipath = multipathOnly(options);
  }

  override createConnection(options: ClientRequestArgs, callback?: Connected): Duplex {
    return httpsCreateConnection.call(this, { ...options, socket: open(options, this.multipath) }, callback);
  }
}

/** As `tls.connect`, over one of our sockets. */
export function connectTls(options: ConnectionOptions & MultipathOptions, listener?: () => void): TLSSocket {
  const { host, servername } = options;
  const name = servername ?? host ?? 'localhost';
  return tlsConnect({ ...options, socket: open(options, {}), servername: /^[\d.]+$|:/.test(name) ? '' : name }, listener);
}

interface UndiciConnect {
  hostname: string;
  host?: string;
  protocol: string;
  port: string;
  servername?: string | null;
  localAddress?: string | null;
}

/** The `connect` of undici's Client, Pool and Agent: `new Agent({ connect: undiciConnect({ service: 'aggregate' }) })`. */
export function undiciConnect(
  options: MultipathOptions & ConnectionOptions = {},
): (target: UndiciConnect, callback: (...args: [error: null, socket: NodeSocket] | [error: Error, socket: null]) => void) => void {
  const tls = withoutMultipath(options);
  return (target, callback) => {
    const host = target.hostname.replace(/^\[|\]$/g, '');
    const secure = target.protocol === 'https:';
    const port = Number(target.port === '' ? (secure ? 443 : 80) : target.port);
    const plain = open({ host, port, ...(target.localAddress ? { localAddress: target.localAddress } : {}) }, multipathOnly(options));
    const socket: NodeSocket = secure
      ? tlsConnect({ ALPNProtocols: ['http/1.1'], ...tls, servername: target.servername ?? (/^[\d.]+$|:/.test(host) ? '' : host), socket: plain })
      : plain;
    const failed = (error: Error): void => callback(error, null);
    // A TLS socket hears of its transport's end, not of the reason.
    plain.once('error', failed);
    if (secure) socket.once('error', failed);
    socket.setNoDelay(true);
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      plain.off('error', failed);
      socket.off('error', failed);
      if (secure) plain.on('error', () => undefined);
      callback(null, socket);
    });
  };
}

/** The multipath facts of a socket, also through TLS; null for sockets that are not ours. */
export function multipathOf(socket: unknown): Multipath | null {
  let one = socket as { multipath?: Multipath | null; _parent?: unknown; stream?: unknown } | null | undefined;
  for (let depth = 0; one !== null && one !== undefined && depth < 4; depth++) {
    if (one instanceof Socket) return one.multipath;
    one = (one._parent ?? one.stream) as typeof one;
  }
  return null;
}

function multipathOnly(options: MultipathOptions): MultipathOptions {
  const { backend, settings } = split(options);
  return { ...(backend === undefined ? {} : { backend }), ...settings };
}

/** What is left for TLS. */
function withoutMultipath<T extends MultipathOptions>(options: T): Omit<T, keyof MultipathOptions> {
  const ours = new Set(['backend', ...Object.keys(split(options).settings)]);
  return Object.fromEntries(Object.entries(options).filter(([name]) => !ours.has(name))) as Omit<T, keyof MultipathOptions>;
}
