/** System tests need root, TUN and kernel Multipath TCP. Without them they are skipped and say why; with CI=true that is a failure. */
import { describe, it } from 'vitest';
import { kernelMptcpObstacle, removeLeftovers, tunObstacle } from '@subflow/link';

const obstacle = tunObstacle() ?? kernelMptcpObstacle();

export function describeSystem(name: string, body: () => void): void {
  if (obstacle === null) {
    removeLeftovers();
    describe(name, body);
    return;
  }
  describe(name, () => {
    if (process.env['CI'] === 'true') {
      it('needs a system that can run it', () => {
        throw obstacle;
      });
    } else {
      it.skip(`skipped: ${obstacle.message}`, () => undefined);
    }
  });
}
