-- Adds messages and tells those who wait.
--
-- KEYS[1]  the queue's stream
-- ARGV[1]  the channel on which its receivers are woken
-- ARGV[2]  how many messages the stream may hold; beyond, the oldest are dropped (the ledger has what they told)
-- ARGV[3+] the bodies

for index = 3, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'body', ARGV[index])
end
redis.call('PUBLISH', ARGV[1], #ARGV - 2)
