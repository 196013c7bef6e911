/** A kernel client that connects by a name with several addresses and prints its subflows; runs inside a namespace: PORT ADDRESS… */
import { connect, kernelBackend } from '@subflow/net';

const [port, ...addresses] = process.argv.slice(2);
const lookup = (_name: string, options: { family?: number }, callback: (error: null, found: { address: string; family: number }[]) => void): void =>
  callback(null, options.family === 6 ? [] : addresses.map((address) => ({ address, family: 4 })));
const socket = connect({ host: 'server.example', port: Number(port), backend: kernelBackend, lookup: lookup as never });
socket.on('data', () => undefined);
socket.write('hello');
const subflows = (): string[] => (socket.multipath?.info()?.subflows ?? []).filter((one) => one.state === 'ESTABLISHED').map((one) => one.remoteAddress);
for (let i = 0; i < 300 && subflows().length < addresses.length; i++) await new Promise((resolve) => setTimeout(resolve, 10));
process.stdout.write(`${JSON.stringify({ subflows: subflows(), notes: socket.multipath!.info()!.notes })}\n`);
process.exit(0);
