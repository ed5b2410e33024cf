// Viewers as they are in the wild, on a connection of their own:
//   node old_viewers.mjs PORT raw 'logs:*'     appends each message as it comes, and never ends by itself
//   node old_viewers.mjs PORT json logs:demo   shows JSON.parse(message).log, and ends at exactly "Done"
// Each line that a person would see is printed as one JSON string.
import net from 'node:net'

const [port, kind, channel] = process.argv.slice(2)
const connection = net.connect(Number(port), '127.0.0.1')
connection.write(`${kind === 'raw' ? 'PSUBSCRIBE' : 'SUBSCRIBE'} ${channel}\r\n`)

let waiting = Buffer.alloc(0)
connection.on('data', (data) => {
  waiting = Buffer.concat([waiting, data])
  for (let reply; (reply = take()); ) {
    if (reply[0] === 'subscribe' || reply[0] === 'psubscribe') console.log('null')
    else if (kind === 'raw') show(reply[3])
    else {
      const { log } = JSON.parse(reply[2])
      show(log)
      if (log === 'Done') process.exit(0)
    }
  }
})

function show(line) {
  if (typeof line !== 'string') throw new TypeError(`a person was shown ${line}`)
  console.log(JSON.stringify(line))
}

/** Give the next reply, an array of texts, when all of it has come. */
function take() {
  const end = (from) => waiting.indexOf('\r\n', from)
  const reply = []
  let at = end(0) + 2
  if (at < 2) return undefined
  for (let left = Number(waiting.toString('latin1', 1, at - 2)); left > 0; left--) {
    const head = end(at)
    if (head < 0) return undefined
    const size = Number(waiting.toString('latin1', at + 1, head))
    if (waiting[at] === 0x3a) {
      reply.push(size) // :1, how many subscriptions there are
      at = head + 2
      continue
    }
    if (waiting.length < head + 4 + size) return undefined
    reply.push(waiting.toString('utf8', head + 2, head + 2 + size))
    at = head + 4 + size
  }
  waiting = waiting.subarray(at)
  return reply
}
