/**
 * Whether the links behind our ports are up, as the system tells (rtnetlink's link events). One monitor for all ports of a network
 * namespace, made with the first and closed with the last. A device may move to another namespace while a port holds it (TUN
 * devices do): its watch follows.
 */
import { fstatSync, statSync } from 'node:fs';
import { LinkError } from './errors.ts';
import type { NetlinkGroup } from './netlink.ts';
import { LinkClient, linkChanges } from './rtnetlink.ts';
import type { LinkChange, LinkFacts } from './rtnetlink.ts';
import { close, inNetworkNamespace } from './system.ts';

/** How a port finds its device. */
export interface LinkSource {
  /**
   * A descriptor of the network namespace the device is in, for the caller to close; -1: this thread's; null: there is no device
   * any more. Throws {@link LinkError} when it may not be asked.
   */
  namespace(): number | null;
  /** The device among the links of that namespace; null when it is not there. */
  find(links: LinkClient): LinkFacts | null;
  /** Whether a link of this name, which has just appeared, may be the device that was gone. */
  returnsAs(name: string): boolean;
}

/** Watches the link of one port. */
export class LinkWatch {
  private readonly source: LinkSource;
  private readonly onChange: (up: boolean) => void;
  private monitor: LinkMonitor | null = null;
  private index = 0;
  /** What was reported last. A port whose link was not up yet has nothing to report but that. */
  private up: boolean;
  private closed = false;

  /**
   * `assumed`: the link counts as up until it has been (a TUN device, whose maker sets it up later). Otherwise a link that is not
   * up is reported at once.
   */
  constructor(source: LinkSource, assumed: boolean, onChange: (up: boolean) => void) {
    this.source = source;
    this.onChange = onChange;
    this.up = !assumed;
    this.settle();
  }

  close(): void {
    this.closed = true;
    this.leave();
  }

  /** The device is gone for good. */
  lost(): void {
    this.leave();
    this.report(false);
  }

  /** Whether a change in the watched namespace is one of our device. */
  concerns({ facts, left }: LinkChange): boolean {
    return this.index === 0 ? !left && this.source.returnsAs(facts.name) : facts.index === this.index;
  }

  /** Finds the device and its state. */
  settle(): void {
    if (this.closed) return;
    try {
      const namespace = this.source.namespace();
      if (namespace === null) {
        this.lost();
        return;
      }
      const monitor = LinkMonitor.join(namespace, this);
      if (monitor !== this.monitor) this.leave();
      this.monitor = monitor;
      const facts = this.source.find(monitor.links);
      this.index = facts?.index ?? 0;
      if (facts === null) this.report(false);
      else this.judge(facts);
    } catch (error) {
      // A system that does not let us look leaves things as they are.
      if (!(error instanceof LinkError)) throw error;
    }
  }

  /** Down as soon as it cannot carry packets, up only when it does: a carrier that has just come does not count before the kernel sends. */
  private judge(facts: LinkFacts): void {
    if (facts.running) this.report(true);
    else if (!facts.connected) this.report(false);
  }

  private report(up: boolean): void {
    if (up === this.up || this.closed) return;
    this.up = up;
    this.onChange(up);
  }

  private leave(): void {
    this.monitor?.part(this);
    this.monitor = null;
    this.index = 0;
  }
}

/** Network namespaces (by inode) that are watched. */
const monitors = new Map<number, LinkMonitor>();

class LinkMonitor {
  readonly links: LinkClient;
  private readonly inode: number;
  private readonly group: NetlinkGroup;
  private readonly watches = new Set<LinkWatch>();
  /** Watches that are to look again. */
  private readonly due = new Set<LinkWatch>();

  private constructor(inode: number) {
    this.inode = inode;
    // Events first: what changes after the answer is not missed.
    this.group = linkChanges(
      (change) => this.lookAgain((watch) => watch.concerns(change)),
      () => this.lookAgain(() => true),
    );
    try {
      this.links = new LinkClient();
    } catch (error) {
      this.group.close();
      throw error;
    }
  }

  /** The monitor of a namespace, with one watch more. Takes the descriptor. Throws {@link LinkError}. */
  static join(namespace: number, watch: LinkWatch): LinkMonitor {
    try {
      const own = statSync('/proc/thread-self/ns/net').ino;
      const inode = namespace < 0 ? own : fstatSync(namespace).ino;
      let monitor = monitors.get(inode);
      if (monitor === undefined) {
        const make = (): LinkMonitor => new LinkMonitor(inode);
        monitor = inode === own ? make() : inNetworkNamespace(`/proc/self/fd/${namespace}`, make);
        monitors.set(inode, monitor);
      }
      monitor.watches.add(watch);
      return monitor;
    } finally {
      if (namespace >= 0) close(namespace);
    }
  }

  part(watch: LinkWatch): void {
    this.watches.delete(watch);
    this.due.delete(watch);
    if (this.watches.size > 0) return;
    monitors.delete(this.inode);
    this.group.close();
    this.links.close();
  }

  /**
   * An event says how a link was when it happened; others may wait behind it. So it only is a reason to ask how the link is, once
   * for all events that have come together: a link that was down for less than that has not changed.
   */
  private lookAgain(concerned: (watch: LinkWatch) => boolean): void {
    const waiting = this.due.size > 0;
    for (const watch of this.watches) if (concerned(watch)) this.due.add(watch);
    if (waiting || this.due.size === 0) return;
    queueMicrotask(() => {
      const due = [...this.due];
      this.due.clear();
      for (const watch of due) watch.settle();
    });
  }
}
