/** `import net from 'subflow/net'` instead of `import net from 'node:net'`. */
export * from '@subflow/net';
export { default } from '@subflow/net';
