/** `node --import subflow/preload app.js`. */
import '@subflow/net/preload';
