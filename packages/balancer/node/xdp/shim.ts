/** Beamer's shim on an interface of a kernel server (bpf/shim.c): takes packets out of tunnels, sends on what belongs to another server. */
import { BpfMap, loadXdp, XdpLink } from '@subflow/link';
import type { XdpMode } from '@subflow/link';
import { parseAddress } from '@subflow/wire';
import { writeAddress } from './layout.ts';
import { bpfObject, sumOfCpus } from './plane.ts';

const COUNTERS = ['taken', 'chained', 'notATunnel', 'foreign', 'malformed', 'noRoute'] as const;

export class Shim {
  private readonly link: XdpLink;
  private readonly counterMap: BpfMap;

  /**
   * `own`: addresses of the server that tunnels end at, one of each family at most; `balancers`: where they may begin. It goes
   * with this process. Throws {@link LinkError}, {@link PlaneError}.
   */
  constructor(device: string, own: readonly string[], balancers: readonly string[], mode: XdpMode = 'native') {
    const object = bpfObject('shim');
    const maps = new Map(object.maps.map((one) => [one.name, BpfMap.create(one.name, one)]));
    const config = new Uint8Array(20);
    const view = new DataView(config.buffer);
    for (const text of own) {
      const address = parseAddress(text);
      if (address.length === 4) view.setUint32(0, new DataView(address.buffer, address.byteOffset).getUint32(0), true);
      else writeAddress(view, 4, address);
    }
    maps.get('config')!.update(new Uint8Array(4), config);
    for (const one of balancers) {
      const key = new Uint8Array(16);
      writeAddress(new DataView(key.buffer), 0, parseAddress(one));
      maps.get('balancers')!.update(key, Uint8Array.of(1));
    }
    this.link = XdpLink.attach(loadXdp('subflow_shim', object.instructions('xdp', maps)), device, mode);
    this.counterMap = maps.get('counters')!;
  }

  counters(): Record<string, number> {
    return Object.fromEntries(COUNTERS.map((name, i) => [name, sumOfCpus(this.counterMap.lookup(new Uint8Array(Uint32Array.of(i).buffer)))]));
  }

  close(): void {
    this.link.close();
  }
}
