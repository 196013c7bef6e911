/** Floor 3: drivers for Node on Linux, real-time emulated links, and the test bench for the kernel. */
export { epoch, now } from './clock.ts';
export { systemEntropy } from './entropy.ts';
export { LinkError } from './errors.ts';
export type { LinkErrorCode } from './errors.ts';
export { HostDriver } from './host-driver.ts';
export { kernelConnect, kernelListener, kernelMptcpObstacle, kernelServer, mptcpInfo } from './kernel-socket.ts';
export type { KernelMptcpInfo } from './kernel-socket.ts';
export { cleanUp, command, Namespace, removeLeftovers, vethPair } from './netns.ts';
export { PcapngTap } from './pcapng-tap.ts';
export type { PacketHandler, PacketPort } from './port.ts';
export { RealTimeNetwork } from './real-time.ts';
export type { LinkEnd } from './real-time.ts';
export { Tun, TUN_SEGMENTATION_LIMIT, tunObstacle } from './tun.ts';
export type { TunOptions } from './tun.ts';
