/**
 * `node --import @subflow/net/preload app.js`: every TCP socket and server of an unmodified program asks for Multipath
 * TCP, as mptcpize does for C programs. Where the system has none, it stays with TCP; SUBFLOW_VERBOSE=1 says so.
 */
import { kernelMptcpObstacle } from '@subflow/link/kernel';
import { preferMultipath } from './kernel/handle.ts';
import { TCP } from './node-internals.ts';

const obstacle = kernelMptcpObstacle();
if (obstacle === null) preferMultipath(TCP.prototype as InstanceType<typeof TCP>);
else if (process.env['SUBFLOW_VERBOSE'] === '1') process.stderr.write(`subflow: plain TCP, because ${obstacle.message}\n`);
