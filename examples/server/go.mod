module minidocker/examples/server

go 1.19
