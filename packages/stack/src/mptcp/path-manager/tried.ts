/** Pairs of local and remote address id that a path manager has opened a subflow for: each is tried once. */
export class TriedPairs {
  // Most connections never try any.
  private pairs: Set<string> | null = null;

  has(localId: number, remoteId: number): boolean {
    return this.pairs?.has(`${localId}:${remoteId}`) ?? false;
  }

  add(localId: number, remoteId: number): void {
    (this.pairs ??= new Set()).add(`${localId}:${remoteId}`);
  }

  /** An address of ours is gone: its pairs may be tried again. */
  forgetLocal(localId: number): void {
    this.forget((pair) => pair.startsWith(`${localId}:`));
  }

  /** The peer has withdrawn an address. */
  forgetRemote(remoteId: number): void {
    this.forget((pair) => pair.endsWith(`:${remoteId}`));
  }

  private forget(concerns: (pair: string) => boolean): void {
    if (this.pairs !== null) for (const pair of this.pairs) if (concerns(pair)) this.pairs.delete(pair);
  }
}
