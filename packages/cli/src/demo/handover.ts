/** The default scenario: leaving the house and coming back. */
export const HANDOVER = `
name: handover
seed: 1
paths:
  - name: wifi
    rate: 20 Mbit/s
    delay: 15 ms
    queue: { time: 100 ms }
  - name: lte
    rate: 10 Mbit/s
    delay: 30 ms
    loss: 0.1 %
    queue: { time: 100 ms }
transfer: { direction: download, size: 40 MB }
timeline:
  - { at: 5 s, path: wifi, up: false }
  - { at: 12 s, path: wifi, up: true }
limit: 90 s
`;
