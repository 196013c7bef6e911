/** Running a balancer on Linux: data planes, configuration, health, stores. */
export { bpfObject, pinFolder, removePins, XdpPlane } from './xdp/plane.ts';
export type { XdpPlaneOptions } from './xdp/plane.ts';
export * from './plan.ts';
export { NftablesPlane } from './nftables-plane.ts';
export { UserspacePlane } from './userspace-plane.ts';
export { SystemChanges } from './system-changes.ts';
