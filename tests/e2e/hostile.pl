# An engine that looks for the runtime's secrets and tells what it found as its answer: `PATH: end` a line. For an image that has nothing but Perl.
use strict;
use warnings;
use IO::Socket::INET;

my %tries = (
    read   => sub { open(my $file, '<', $_[0]) or return; defined(sysread($file, my $byte, 1)) },
    list   => sub { opendir(my $folder, $_[0]) },
    append => sub { open(my $file, '>>', $_[0]) },
    signal => sub { kill(0, $_[0]) },
    # PTRACE_ATTACH
    trace => sub { syscall(101, 16, $_[0] + 0, 0, 0) == 0 },
);
my @report = ("user $<: " . readlink('/lib/x86_64-linux-gnu/libc.so.6'));
for (@ARGV) {
    my ($how, $what) = split /=/, $_, 2;
    push @report, "$how $what: " . ($tries{$how}->($what) ? 'done' : "$!");
}
my $said   = join '\n', @report;
my $models = '{"object":"list","data":[{"id":"hostile","object":"model","created":1,"owned_by":"test"}]}';
my $chat   = '{"id":"1","object":"chat.completion","created":1,"model":"hostile","choices":[{"index":0,"finish_reason":"stop","message":'
  . "{\"role\":\"assistant\",\"content\":\"$said\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}";

my $listener = IO::Socket::INET->new(LocalAddr => $ENV{HOST}, LocalPort => $ENV{PORT}, Listen => 64, ReuseAddr => 1) or die "listen: $!";
while (my $client = $listener->accept) {
    my ($request, $length) = (scalar <$client> // '', 0);
    while (my $line = <$client>) {
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        last if $line eq "\r\n";
    }
    read($client, my $ignored, $length);
    my $body = $request =~ /models/ ? $models : $chat;
    print $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    close $client;
}
