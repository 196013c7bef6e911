/** The kernel's Multipath TCP only, without drivers and the emulator: what a preload may load. */
export { kernelMptcpObstacle, kernelSocket, setCongestion, setReusePort } from './kernel-socket.ts';
export { readMptcpInfo, readSubflows } from './mptcp-sockopt.ts';
export { errnoName } from './system.ts';
