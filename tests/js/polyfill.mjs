// js-libp2p 3 is written for node 22. What older ones lack is added here, before libp2p is loaded.
import { webcrypto } from 'node:crypto'
import WebSocket from 'ws'

globalThis.WebSocket ??= WebSocket
globalThis.crypto ??= webcrypto

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((a, b) => {
    resolve = a
    reject = b
  })
  return { promise, resolve, reject }
}

globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor (type, options = {}) {
    super(type, options)
    this.detail = options.detail ?? null
  }
}
