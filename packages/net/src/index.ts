/** Floor 4: node:net over Multipath TCP. Change `node:net` to `subflow/net`, and existing programs use several paths. */
import nodeNet from 'node:net';
import { Server } from './server.ts';
import type { ServerOptions } from './server.ts';
import { Socket } from './socket.ts';
import type { ConnectOptions } from './socket.ts';

export { BlockList, isIP, isIPv4, isIPv6, SocketAddress } from 'node:net';
export { Socket as Stream } from './socket.ts';
export { Server, serve } from './server.ts';
export type { ServerOptions } from './server.ts';
export { Socket } from './socket.ts';
export type { ConnectOptions, MultipathOptions, SocketOptions } from './socket.ts';
export { Multipath } from './multipath.ts';
export type { AddressOptions, MultipathEvents, MultipathInfo, SubflowChange, SubflowFacts } from './multipath.ts';
export type { Alternative, Backend, MultipathSettings } from './backend.ts';
export { defaultBackend, setDefaultBackend } from './default-backend.ts';
export { kernelBackend } from './kernel/backend.ts';
export { StackBackend } from './stack/backend.ts';
export type { StackRunner } from './stack/backend.ts';
export { NetError } from './errors.ts';
export type { NetErrorCode } from './errors.ts';
export { AllAttemptsFailed, race } from './happy-eyeballs.ts';
export type { Attempt, Candidate, Race, RaceOptions, RaceResult } from './happy-eyeballs.ts';

/** As `net.createConnection`, with {@link MultipathOptions} among the options. */
export function connect(options: ConnectOptions, listener?: () => void): Socket;
export function connect(port: number, host?: string, listener?: () => void): Socket;
export function connect(port: number, listener?: () => void): Socket;
export function connect(path: string, listener?: () => void): Socket;
export function connect(...args: unknown[]): Socket {
  // http.Agent passes its own arguments on: (options, callback).
  const [first] = args;
  const options = (typeof first === 'object' && first !== null ? first : {}) as ConnectOptions;
  const socket = new Socket(options as ConstructorParameters<typeof Socket>[0]);
  if (options.timeout !== undefined && options.timeout > 0) socket.setTimeout(options.timeout);
  return socket.connect(...args);
}

export const createConnection: typeof connect = connect;

/** As `net.createServer`, with {@link MultipathOptions} among the options. */
export function createServer(options?: ServerOptions | ((socket: Socket) => void), listener?: (socket: Socket) => void): Server {
  return new Server(options, listener);
}

export { emulatedNetwork, openStack } from './stack/open.ts';
export type { EmulatedNetwork, EmulatedPath, EmulationOptions, StackInterface, StackOptions } from './stack/open.ts';
export { connectTls, HttpAgent, HttpsAgent, multipathOf, undiciConnect } from './agents.ts';
export { kernelSnapshot, publishStatus, stackSnapshot, stackSnapshots } from './status.ts';
export type { ConnectionStatus, InterfaceStatus, StatusSnapshot } from './status.ts';
export { AccessList } from './proxy/access.ts';
export { connectThroughConverter } from './proxy/convert.ts';
export type { ConvertConnectOptions } from './proxy/convert.ts';
export { CONVERT_ERROR, CONVERT_PORT, convertMessage, isFault, messageLength, parseTlvs } from './proxy/convert-messages.ts';
export type { ConvertTlv } from './proxy/convert-messages.ts';
export { ProxyError } from './proxy/errors.ts';
export type { ProxyErrorCode } from './proxy/errors.ts';
export { parseTarget } from './proxy/http-connect.ts';
export { proxyHeader } from './proxy/proxy-protocol.ts';
export { ProxyServer } from './proxy/server.ts';
export type { ProxyCounters, ProxyOptions, ProxyProtocol, ProxyRecord } from './proxy/server.ts';

/** For `import net from 'subflow/net'`, as `import net from 'node:net'`: what is not named here is node:net's. */
export default { ...nodeNet, Socket, Stream: Socket, Server, connect, createConnection, createServer };
export { RateMeter } from './rates.ts';
export type { ConnectionRow, InterfaceRow, Rates, SubflowRow, View } from './rates.ts';
