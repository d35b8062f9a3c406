// The fan-out peer: Socket.IO on WebSocket only, with tokens verified as the documentation shows it.
//
// It takes "ts\n" on a second port, and emits an event of about 200 bytes with it to everybody.
// Environment: SECRET.
import { createServer } from 'node:http';
import { createServer as createListener } from 'node:net';
import { createInterface } from 'node:readline';
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';

const http = createServer();
const io = new Server(http, { transports: ['websocket'], serveClient: false });
let number = 0;

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, process.env.SECRET, { algorithms: ['HS256'] }).sub;
    next();
  } catch (error) {
    next(error);
  }
});
io.on('connection', (socket) => {
  socket.join('catalog');
  socket.emit('subscribed');
});

function publish(stamp) {
  number += 1;
  const id = String(number).padStart(7, '0');
  io.to('catalog').emit('bench_published', {
    // A number in JavaScript has fewer digits than the stamp.
    data: { ts: stamp, publishedBy: 'bench', timestamp: new Date().toISOString() },
    namespace: '/real-time',
    broadcast: true,
    id: `e-${id}`,
    topic: `episode:${id}`,
    offset: 1,
    epoch: 'bench',
  });
}

const publisher = createListener((stream) => createInterface(stream).on('line', publish));
publisher.listen(0, '127.0.0.1', () => {
  console.log(`publishing on ${publisher.address().port}`);
  http.listen(0, '127.0.0.1', () => console.log(`ready on ${http.address().port}`));
});
process.once('SIGTERM', () => process.exit(0));
