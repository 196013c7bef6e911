/** node:net over Multipath TCP without privileges: an echo server and a client on two emulated paths, one cut in the middle. */
import { once } from 'node:events';
import { connect, createServer, emulatedNetwork } from '@subflow/net';

const network = emulatedNetwork([
  { name: 'wifi', link: { rate: 20e6, delay: 5_000 } },
  { name: 'lte', link: { rate: 10e6, delay: 10_000 } },
]);
const server = createServer({ backend: network.server }, (socket) => socket.pipe(socket));
server.listen(7000);
await once(server, 'listening');

const socket = connect({ backend: network.client, host: network.addresses[0]!, port: 7000, service: 'handover' });
const joined = new Promise<void>((resolve) => socket.multipath!.on('subflow-established', ({ id }) => id === 1 && resolve()));
socket.write('over wifi');
console.log('echo:', String((await once(socket, 'data'))[0]));
await joined;

network.paths[0]!.cut();
socket.write('over lte');
console.log('echo:', String((await once(socket, 'data'))[0]));
for (const one of socket.multipath!.info()!.subflows) console.log(`${one.interface}: ${one.state}, ${one.bytesReceived} bytes received`);
socket.destroy();
server.close();
network.stop();
