// The fan-out peer: Socket.IO on WebSocket only, with tokens verified as the documentation shows it.
//
// It takes "ts\n" on a second port, and emits an event with it to everybody: a frame of about 200 bytes, or, with
// the argument "data", what a frontend of Socket.IO is told, the event's data and where it stands then.
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
  // A number in JavaScript has fewer digits than the stamp.
  const data = { ts: stamp, publishedBy: 'bench', timestamp: new Date().toISOString() };
  if (process.argv[2] === 'data') {
    io.to('catalog').emit('bench_published', data, '0-0');
    return;
  }
  io.to('catalog').emit('bench_published', {
    data,
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
