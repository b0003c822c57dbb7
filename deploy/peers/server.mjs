// The smallest Socket.IO server that does a ticker's work: a room a topic. Started as `node server.mjs PORT`, on the loopback interface alone.
// Settings as its makers advise for many sockets: WebSocket without polling before it, no compression, the first request not kept.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, httpCompression: false, serveClient: false });
io.engine.on("connection", (connection) => {
  connection.request = null;
});
io.on("connection", (socket) => {
  socket.join(socket.handshake.auth.rooms);
  // One message may carry several quotes, [room, update, room, update, ...], and is acknowledged once.
  socket.on("publish", (quotes, done) => {
    for (let at = 0; at < quotes.length; at += 2) io.to(quotes[at]).emit("update", quotes[at + 1]);
    done();
  });
  socket.emit("joined");
});
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 65535 });
