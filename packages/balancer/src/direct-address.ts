/**
 * (e) Duchene and Bonaventure: the balancer needs to know nothing. Servers set flag C and announce an address of their own;
 * joins never come here, and the first subflow becomes a backup. A join that comes all the same goes by its hash.
 */
import { StatelessCore } from './stateless.ts';
import type { TableKind } from './lookup-tables.ts';

export class DirectAddressCore extends StatelessCore {
  override readonly design = 'direct addresses';

  constructor(kind: TableKind = 'maglev', seed = 0) {
    super(kind, seed);
  }
}
