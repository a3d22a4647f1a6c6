// HTTP/1.1 with the standard library of Node.
const http = require('http');

http
  .createServer((request, response) => response.end(`node ${request.url}`))
  .listen(Number(process.env.PORT), process.env.HOST);
