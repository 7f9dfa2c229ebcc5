package decrypt

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// grpcName offers the service; the ruleset permits its calls but EmptyCall.
const grpcName = "grpc.decrypted.example"

// grpcOrigin sends back what it is sent.
type grpcOrigin struct {
	pb.UnimplementedTestServiceServer
	called chan string // methods that the ruleset refuses
}

func (o *grpcOrigin) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) {
	o.called <- "EmptyCall"
	return &pb.Empty{}, nil
}

func (*grpcOrigin) UnaryCall(_ context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if r.ResponseStatus != nil {
		return nil, status.Error(codes.Code(r.ResponseStatus.Code), r.ResponseStatus.Message)
	}
	return &pb.SimpleResponse{Payload: r.Payload}, nil
}

func (*grpcOrigin) StreamingInputCall(s pb.TestService_StreamingInputCallServer) error {
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

func (*grpcOrigin) StreamingOutputCall(r *pb.StreamingOutputCallRequest, s pb.TestService_StreamingOutputCallServer) error {
	for range r.ResponseParameters {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
	return nil
}

func (*grpcOrigin) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error {
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

// TestGRPC makes calls of each kind, and one that is refused.
func TestGRPC(t *testing.T) {
	s := shared.open(t)
	internet := s.Host(lab.Internet)
	l, err := internet.Listen(":8446")
	if err != nil {
		t.Fatal(err)
	}
	o := &grpcOrigin{called: make(chan string, 10)}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(s.CA.ServerConfig())))
	pb.RegisterTestServiceServer(srv, o)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	dial := s.DialNameFrom(s.agent)
	conn, err := grpc.NewClient("passthrough:///"+grpcName+":8446",
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: s.Roots()})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, ctx := pb.NewTestServiceClient(conn), within(t)
	payload := &pb.Payload{Body: make([]byte, 100_000)}

	if answer, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload}); err != nil || len(answer.Payload.Body) != 100_000 {
		t.Fatal(err)
	}
	_, err = c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.NotFound), Message: "none"}})
	if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "none" {
		t.Errorf("the origin's own error: %v", err)
	}
	if _, err := c.EmptyCall(ctx, &pb.Empty{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("refused: %v", err)
	}
	in, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := in.Send(&pb.StreamingInputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := in.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 2_000_000 {
		t.Errorf("client stream: %v %v", sum, err)
	}
	out, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{Payload: payload, ResponseParameters: make([]*pb.ResponseParameters, 20)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if r, err := out.Recv(); err != nil || len(r.Payload.Body) != 100_000 {
			t.Fatalf("server stream, message %d: %v", i, err)
		}
	}
	if _, err := out.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("server stream's end: %v", err)
	}
	// Each message waits for the answer to the one before: nothing may be held back.
	duplex, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := duplex.Send(&pb.StreamingOutputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
		if _, err := duplex.Recv(); err != nil {
			t.Fatalf("both ways, message %d: %v", i, err)
		}
	}
	if err := duplex.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := duplex.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end of both ways: %v", err)
	}
	select {
	case m := <-o.called:
		t.Errorf("%s arrived although it was refused", m)
	default:
	}
}
