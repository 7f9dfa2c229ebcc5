package inspect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// grpcOrigin answers every kind of call with what it was sent.
type grpcOrigin struct {
	pb.UnimplementedTestServiceServer
}

func (grpcOrigin) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("sum", fmt.Sprint(len(r.Payload.GetBody()))))
	if r.ResponseStatus != nil {
		return nil, status.Error(codes.Code(r.ResponseStatus.Code), r.ResponseStatus.Message)
	}
	return &pb.SimpleResponse{Payload: r.Payload}, nil
}

func (grpcOrigin) StreamingInputCall(s pb.TestService_StreamingInputCallServer) error {
	var n int32
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		n += int32(len(r.Payload.GetBody()))
	}
}

func (grpcOrigin) StreamingOutputCall(r *pb.StreamingOutputCallRequest, s pb.TestService_StreamingOutputCallServer) error {
	for range r.ResponseParameters {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
	return nil
}

func (grpcOrigin) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
}

// TestGRPC makes calls of each kind. In the last, each message waits for the answer to the one
// before: nothing may be held back.
func TestGRPC(t *testing.T) {
	r := newRig(t)
	cert := r.back.leaf(t, site)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	pb.RegisterTestServiceServer(o, grpcOrigin{})
	go func() { _ = o.Serve(ln) }()
	t.Cleanup(o.Stop)
	r.gate.origin = ln.Addr().String()
	conn, err := grpc.NewClient("passthrough:///"+site,
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return r.raw(t), nil }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: r.front.pool(), ServerName: site})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := pb.NewTestServiceClient(conn)
	payload := &pb.Payload{Body: make([]byte, 100_000)}

	var trailer metadata.MD
	answer, err := client.UnaryCall(t.Context(), &pb.SimpleRequest{Payload: payload}, grpc.Trailer(&trailer))
	if err != nil || len(answer.Payload.Body) != 100_000 || len(trailer["sum"]) != 1 || trailer["sum"][0] != "100000" {
		t.Fatal(err, trailer)
	}
	_, err = client.UnaryCall(t.Context(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: 5, Message: "none"}})
	if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "none" {
		t.Error(err)
	}
	in, err := client.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := in.Send(&pb.StreamingInputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := in.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 500_000 {
		t.Error(sum, err)
	}
	out, err := client.StreamingOutputCall(t.Context(), &pb.StreamingOutputCallRequest{Payload: payload, ResponseParameters: make([]*pb.ResponseParameters, 5)})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, err = out.Recv(); err != nil {
			break
		}
	}
	if n != 5 || !errors.Is(err, io.EOF) {
		t.Error(n, err)
	}
	both, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		body := []byte(fmt.Sprint("message ", i))
		if err := both.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: body}}); err != nil {
			t.Fatal(err)
		}
		if got, err := both.Recv(); err != nil || string(got.Payload.Body) != string(body) {
			t.Fatal(got, err)
		}
	}
	_ = both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestWebSocketDecrypted talks through an upgraded connection, both ways and in large messages.
func TestWebSocketDecrypted(t *testing.T) {
	r := newRig(t)
	r.serve(t, r.back.leaf(t, site), true, nil, func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		c.SetReadLimit(-1)
		for {
			kind, b, err := c.Read(req.Context())
			if err != nil {
				return
			}
			if c.Write(req.Context(), kind, b) != nil {
				return
			}
		}
	})
	c, _, err := websocket.Dial(t.Context(), "wss://"+site+"/ws", &websocket.DialOptions{HTTPClient: r.client(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	for _, size := range []int{0, 1, 125, 126, 70_000, 1 << 20} {
		if err := c.Write(t.Context(), websocket.MessageBinary, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err != nil || len(b) != size {
			t.Fatalf("%d of %d bytes: %v", len(b), size, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
}
