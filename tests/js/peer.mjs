// A js-libp2p node that visits a Kith node and tells in JSON lines what it saw.
//
//   node peer.mjs ADDRESS DIRECTORY_KEY JUNK_KEY
//
// ADDRESS is a multiaddr with /p2p/, the keys are hex. Each line is {"step": …}; the last one is {"step": "done"}.
// A step that goes wrong ends the program with a message and status 1.
import './polyfill.mjs'

const { createLibp2p } = await import('libp2p')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { tcp } = await import('@libp2p/tcp')
const { webSockets } = await import('@libp2p/websockets')
const { kadDHT, passthroughMapper, MessageType } = await import('@libp2p/kad-dht')
const { multiaddr } = await import('@multiformats/multiaddr')

const KAD = '/kith/kad/1'
const [address, directoryKey, junkKey] = process.argv.slice(2)
const tell = (step, more = {}) => console.log(JSON.stringify({ step, ...more }))
const hex = (bytes) => Buffer.from(bytes).toString('hex')
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'))

/** Asks until there is an answer; the test that started us sets the ceiling. */
async function until (probe) {
  for (;;) {
    const value = await probe()
    if (value != null && value !== false) return value
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const node = await createLibp2p({
  addresses: { listen: [] },
  transports: [tcp(), webSockets()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // Its pings would be counted as a second, concurrent ping by the other side.
  connectionMonitor: { enabled: false },
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({ protocol: KAD, clientMode: true, peerInfoMapper: passthroughMapper })
  }
})

/** One Kademlia request to one peer, and its answer. */
async function request (to, message) {
  for await (const event of node.services.dht.network.sendRequest(to, message, { path: { index: -1 } })) {
    if (event.name === 'PEER_RESPONSE') return event
    if (event.name === 'QUERY_ERROR') throw event.error
  }
  throw new Error(`no answer to ${message.type}`)
}

/** The bytes stored under a key, or nothing. */
async function get (from, key) {
  const answer = await request(from, { type: MessageType.GET_VALUE, key })
  return answer.record?.value
}

const identified = new Promise((resolve) => {
  node.addEventListener('peer:identify', (event) => resolve(event.detail), { once: true })
})
const connection = await node.dial(multiaddr(address))
const peer = connection.remotePeer
tell('connected', { peer: peer.toString(), address: connection.remoteAddr.toString() })

const seen = await identified
tell('identified', { agent: seen.agentVersion, protocols: seen.protocols })

// Kademlia pings whoever enters its table; two pings at once are one too many.
await until(() => node.services.dht.routingTable.size > 0)
tell('pinged', { ms: await node.services.ping.ping(peer) })

const peers = await until(async () => {
  const found = await request(peer, { type: MessageType.FIND_NODE, key: node.peerId.toMultihash().bytes })
  const others = found.closer.map((info) => info.id.toString()).filter((id) => id !== node.peerId.toString())
  return others.length > 0 && others
})
tell('peers', { peers })

const value = await until(() => get(peer, bytes(directoryKey)))
tell('record', { value: hex(value) })

const junk = bytes(junkKey)
const { Libp2pRecord } = await import('@libp2p/record')
const put = async (key, value) => {
  const record = new Libp2pRecord(key, value, new Date()).serialize()
  try {
    await request(peer, { type: MessageType.PUT_VALUE, key, record })
    return 'answered'
  } catch (error) {
    return String(error.message ?? error)
  }
}
// Random bytes under a key of one's own, then a copy of the record with its last byte changed, under its own key.
const first = await put(junk, new Uint8Array(200).fill(7))
const forged = Uint8Array.from(value)
forged[forged.length - 1] ^= 1
const second = await put(bytes(directoryKey), forged)
tell('junk', {
  answers: [first, second],
  stored: (await get(peer, junk)) != null,
  replaced: hex(await get(peer, bytes(directoryKey))) !== hex(value)
})

await node.stop()
tell('done')
process.exit(0)
