// `node --import …/replace-net.mjs file.js`: node:net's exports become those of @subflow/net, on the backend named by SUBFLOW_TEST_BACKEND.
import net from 'node:net';
import { syncBuiltinESMExports } from 'node:module';
import * as subflow from '@subflow/net';

if (process.env.SUBFLOW_TEST_BACKEND === 'stack') subflow.setDefaultBackend(subflow.openStack({ tcp: { timeWait: 100_000 } }));
Object.assign(net, { connect: subflow.connect, createConnection: subflow.createConnection, createServer: subflow.createServer });
// Older code calls the constructors without `new`.
const callable = (Class) => new Proxy(Class, { apply: (target, _self, args) => new target(...args) });
net.Socket = net.Stream = callable(subflow.Socket);
net.Server = callable(subflow.Server);
syncBuiltinESMExports();
